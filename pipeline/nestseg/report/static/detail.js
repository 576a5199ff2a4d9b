// The detail of a case: pictures, viewer, volumes among the others', flags and what was done.

let current = null;

function panel(title, ...children) {
  return make("section", { class: "panel" }, make("h3", {}, title), ...children);
}

function volumesPanel(row) {
  const { unit, sizes } = measured(row);
  const rows = source.report.labels.filter(({ name }) => name in sizes).map((label) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = label.colour;
    const plot = label.cohort ? strip(label, source.sorted[label.name], row) : "";
    return make("tr", {}, make("th", { scope: "row" }, swatch, label.name),
      make("td", { class: "number" }, `${figure(sizes[label.name], 4)} ${unit}`),
      make("td", { class: "among" }, plot));
  });
  return rows.length ? panel(unit === "ml" ? "Volumes, among all cases" : "Sizes, among all cases", make("table", { class: "volumes" }, ...rows)) : null;
}

function flagsPanel(row) {
  if (!row.flags.length) return null;
  return panel("To look at", make("ul", { class: "sentences" }, ...row.flags.map((flag) =>
    make("li", {}, make("b", {}, flag.label && !flag.sentence.includes(flag.label) ? `${flag.label}: ` : ""), flag.sentence,
      make("span", { class: "quiet" }, ` (${flag.code})`)))));
}

function factsPanel(row) {
  const facts = [
    ["Kind", row.kind === "nifti" ? "NIfTI, modality and body part unknown"
      : [row.kind, row.modality].filter(Boolean).join(", ")],
    ["Part of its series", row.part],
    ["Voxels", row.shape && row.shape.join(" × ")],
    ["Spacing", row.spacing_mm && `${row.spacing_mm.map((mm) => figure(mm)).join(" × ")} mm`],
    ["Uncertainty", row.uncertainty === null ? null : figure(row.uncertainty)],
    ["Time", row.seconds === null ? null : `${duration(row.seconds)}: ${Object.entries(row.stages)
      .map(([stage, seconds]) => `${stage} ${figure(seconds)} s`).join(", ")}`],
    ["Peak memory", row.peak_memory_mb === null ? null : `${figure(row.peak_memory_mb)} MB`],
    ["Attempts", row.attempts || null],
    ["Finished", moment(row.finished)],
    ["Found in the input", row.findings.join(", ")],
    ["Done differently than asked", row.notes.join("; ")],
    ["Last run", row.seen ? null : "did not find this case among its inputs"],
  ].filter(([, value]) => value);
  const files = Object.entries(row.files).map(([role, path]) =>
    make("li", {}, make("code", {}, path), make("span", { class: "quiet" }, ` ${role}`)));
  return panel("Facts",
    make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])),
    files.length ? make("ul", { class: "files" }, ...files) : null);
}

function toolbar() {
  const views = make("div", { class: "chips", role: "group", "aria-label": "View" },
    ...Object.entries(VIEWS).map(([view, title]) => make("button", {
      type: "button", "aria-pressed": String(view === viewer.view), "data-view": view,
      onclick: (event) => {
        viewer.setView(view);
        for (const one of event.currentTarget.parentElement.children) {
          one.setAttribute("aria-pressed", String(one.dataset.view === view));
        }
      } }, title)));
  const opacity = make("input", { type: "range", min: "0", max: "1", step: "0.05", value: viewer.opacity,
    oninput: (event) => viewer.setOpacity(Number(event.currentTarget.value)) });
  const files = make("input", { type: "file", multiple: true, accept: ".nii,.gz,.nii.gz", class: "hidden", id: "files",
    onchange: (event) => guarded(() => viewer.showFiles(event.currentTarget.files)) });
  return make("div", { class: "toolbar" }, views, make("label", {}, "Mask ", opacity),
    make("label", { class: "button", for: "files", title: "Image and mask as NIfTI; they stay on this computer" },
      "Open files…", files));
}

function say(text) {
  document.querySelector("#detail .says").textContent = text;
}

async function guarded(work) {
  try {
    await work();
    say("");
  } catch (error) {
    say(`The viewer could not show this: ${error.message}`);
  }
}

async function fillStage(row) {
  const stage = document.querySelector("#detail .stage");
  if (viewer.lacks) {
    stage.classList.add("empty");
    say(viewer.lacks);
    return;
  }
  const volumes = await source.volumes(row);
  if (current !== row) return; // another case was opened meanwhile
  if (viewer.canvas) viewer.canvas.hidden = !volumes;
  stage.classList.toggle("empty", !volumes);
  if (volumes) await guarded(() => viewer.showCase(volumes));
  else if (row.state !== "done") say("There is no mask to show.");
  else if (row.files.snapshot) say("This page has no room for the volumes of this case: open its files, or use nestseg serve.");
  else say("No volumes were kept for this page: open the image and the mask as files.");
  if (current === row) stage.dataset.shown = volumes ? row.key : "";
}

function openCase(row) {
  current = row;
  const dialog = document.getElementById("detail");
  const at = shown.findIndex(({ key }) => key === row.key);
  const step = (by, name, sign) => make("button", { type: "button", "aria-label": name, title: name,
    disabled: at < 0 || !shown[at + by], onclick: () => openCase(shown[at + by]) }, sign);
  const stage = make("div", { class: "stage" }, make("p", { class: "says", role: "status" }));
  if (viewer.canvas) stage.prepend(viewer.canvas); // it moves on to the next case
  const picture = source.picture(row);
  dialog.replaceChildren(
    make("header", {},
      make("div", {}, make("h2", { id: "detail-name" }, row.case), statePill(row)),
      make("div", { class: "tools" }, step(-1, "Previous case (←)", "←"), step(1, "Next case (→)", "→"),
        make("button", { type: "button", id: "close", autofocus: true, onclick: () => dialog.close() }, "Close"))),
    row.reason ? make("p", { class: "notice" }, row.reason) : "",
    make("div", { class: "two" },
      make("div", {}, viewer.lacks ? "" : toolbar(), stage,
        picture ? make("img", { class: "planes", src: picture, alt: "Axial, coronal and sagittal plane with the mask's outlines" }) : ""),
      make("div", {}, ...[flagsPanel(row), volumesPanel(row), factsPanel(row)].filter(Boolean))));
  if (!dialog.open) dialog.showModal();
  fillStage(row);
}
