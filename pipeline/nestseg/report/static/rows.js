// The table: which rows, in which order. Rows are made as they are scrolled to.

const CHUNK = 60;
const MOST_LABELS = 6; // columns of volumes; the detail has them all

const wish = { text: "", states: new Set(), flag: "", column: "", down: false };
let shown = [];
let made = 0;

function columns() {
  const labels = source.report.labels.slice(0, MOST_LABELS).map((label) => ({
    id: `ml:${label.name}`, title: label.name, unit: source.report.unit, colour: label.colour,
    value: (row) => sizeOf(row, label.name),
    cell: (row) => volumeCell(row, label),
  }));
  const has = (name) => source.report.rows.some((row) => row[name] !== null);
  return [
    { id: "picture", title: "", cell: pictureCell },
    { id: "case", title: "Case", value: (row) => row.case, cell: caseCell },
    { id: "state", title: "Status", value: (row) => Object.keys(STATES).indexOf(row.state), cell: stateCell },
    ...labels,
    has("uncertainty") && { id: "uncertainty", title: "Uncertainty", unit: "0–1", value: (row) => row.uncertainty,
      cell: (row) => number(row.uncertainty) },
    { id: "flags", title: "To look at", value: (row) => row.flags.length, cell: flagsCell },
    { id: "seconds", title: "Time", unit: "s", value: (row) => row.seconds, cell: (row) => number(row.seconds) },
    has("peak_memory_mb") && { id: "memory", title: "Memory", unit: "MB", value: (row) => row.peak_memory_mb,
      cell: (row) => number(row.peak_memory_mb) },
  ].filter(Boolean);
}

function number(value) {
  return make("td", { class: "number" }, figure(value));
}

const images = new Map(); // by key: an image that is made anew would flicker

function pictureCell(row) {
  const picture = source.picture(row);
  if (!picture) return make("td", { class: "picture" });
  if (!images.has(row.key)) {
    images.set(row.key, make("img", { src: picture, alt: `Planes through the mask of ${row.case}`,
      loading: "lazy", decoding: "async" }));
  }
  return make("td", { class: "picture" }, images.get(row.key));
}

function caseCell(row) {
  const about = [row.modality ?? (row.kind === "nifti" ? "NIfTI, modality unknown" : row.kind), row.part, row.shape && row.shape.join("×")];
  return make("td", { class: "case" },
    make("button", { type: "button", class: "open" }, row.case),
    make("div", { class: "quiet" }, about.filter(Boolean).join(" · ")));
}

function stateCell(row) {
  return make("td", { class: "state" }, statePill(row),
    row.reason ? make("div", { class: "reason", title: row.reason }, row.reason) : null);
}

function volumeCell(row, label) {
  const size = sizeOf(row, label.name);
  const { unit, sizes } = measured(row);
  if (size === undefined && label.name in sizes) { // a picture among volumes, or the reverse
    return make("td", { class: "number" }, `${figure(sizes[label.name])} ${unit}`);
  }
  const cell = number(size);
  if (row.state === "done" && label.cohort && size !== undefined) {
    const dot = make("i", { class: isFar(row, label.name) ? "dot far" : "dot" });
    dot.style.left = `${100 * place(source.sorted[label.name], size)}%`;
    cell.append(make("div", { class: "rail", "aria-hidden": "true" }, dot));
  }
  return cell;
}

function flagsCell(row) {
  return make("td", { class: "flags" }, ...row.flags.map((flag) =>
    make("span", { class: "flag", title: [flag.label, flag.sentence].filter(Boolean).join(": ") },
      flag.label ? `${flag.code}: ${flag.label}` : flag.code)));
}

/** What the search looks through. */
function words(row) {
  return [row.case, row.key, row.modality, row.part, STATES[row.state], row.cause, row.reason, ...row.notes,
    ...row.findings, ...row.flags.flatMap((flag) => [flag.code, flag.label, flag.sentence])]
    .filter(Boolean).join(" ").toLowerCase();
}

function choose() {
  const parts = wish.text.toLowerCase().split(/\s+/).filter(Boolean);
  shown = source.report.rows.filter((row) =>
    (!wish.states.size || wish.states.has(row.state))
    && (!wish.flag || (wish.flag === "*" ? row.flags.length : row.flags.some((flag) => flag.code === wish.flag)))
    && (!parts.length || parts.every((part) => words(row).includes(part))));
  const column = columns().find(({ id }) => id === wish.column);
  if (column) {
    const sign = wish.down ? -1 : 1;
    const empty = (value) => value === null || value === undefined;
    shown.sort((one, other) => {
      const [a, b] = [column.value(one), column.value(other)];
      if (empty(a) || empty(b)) return empty(a) - empty(b); // at the end, either way
      return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    });
  }
}

function heading(column) {
  const sorted = wish.column === column.id;
  const order = sorted ? (wish.down ? "descending" : "ascending") : "none";
  if (!column.value) return make("th", { scope: "col" }, make("span", { class: "hidden" }, "Planes"));
  const sort = () => {
    wish.down = sorted ? !wish.down : Boolean(column.unit) || column.id === "flags";
    wish.column = column.id;
    showRows();
    document.querySelector(`th[data-column="${CSS.escape(column.id)}"] button`).focus();
  };
  return make("th", { scope: "col", "aria-sort": order, class: column.unit ? "number" : "", "data-column": column.id },
    make("button", { type: "button", onclick: sort }, column.title,
      column.unit ? make("span", { class: "unit" }, ` ${column.unit}`) : null,
      make("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (wish.down ? " ↓" : " ↑") : "")));
}

/** Makes the next rows; all of them before printing. */
function more(count = CHUNK) {
  const parts = columns();
  const rows = shown.slice(made, made + count).map((row) =>
    make("tr", { "data-key": row.key, "data-state": row.state, class: row.seen ? "" : "unseen" },
      ...parts.map((column) => column.cell(row))));
  document.querySelector("#cases tbody").append(...rows);
  made += rows.length;
}

function showRows() {
  source.sorted = Object.fromEntries(source.report.labels.map(({ name }) => [name, volumesOf(name)]));
  choose();
  document.querySelector("#cases thead tr").replaceChildren(...columns().map(heading));
  const before = Math.max(CHUNK, made);
  document.querySelector("#cases tbody").replaceChildren();
  made = 0;
  more(source.live ? before : CHUNK); // a page that is watched stays where it was scrolled to
  const all = source.report.rows.length;
  document.getElementById("count").textContent = shown.length === all ? `${all} rows` : `${shown.length} of ${all} rows`;
  document.getElementById("nothing").hidden = shown.length > 0;
}
