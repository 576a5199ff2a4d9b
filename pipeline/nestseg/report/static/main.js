// Totals, filters, keys, theme, printing, and the newest rows while a run is watched.

const EVERY_MS = 2000;

function card(title, value, note = "") {
  return make("div", { class: "card" }, make("span", { class: "quiet" }, title), make("b", {}, value),
    make("span", { class: "quiet" }, note));
}

function showTotals() {
  const { run, totals } = source.report;
  const count = (...states) => states.reduce((sum, state) => sum + (totals.states[state] ?? 0), 0);
  const open = count("found", "running");
  const aside = count("refused", "does-not-fit");
  const others = Object.entries(run.other_files);
  document.getElementById("run").textContent = [
    run.bundle.version && `version ${run.bundle.version}`,
    run.bundle.weights_sha256 && `weights ${run.bundle.weights_sha256.slice(0, 12)}`,
    run.device && `on ${run.device}`,
    run.started && `begun ${moment(run.started)}`,
    run.finished ? `ended ${moment(run.finished)}` : "not ended",
    run.shards[1] > 1 && `${run.shards[0]} of ${run.shards[1]} shards`,
  ].filter(Boolean).join(" · ");
  document.getElementById("totals").replaceChildren(
    card("Cases", whole(totals.cases), run.scanned ? "" : "so far"),
    card("Done", whole(count("done")), totals.cases ? `${Math.floor(100 * count("done") / totals.cases)} %` : ""),
    card("Failed", whole(count("failed", "quarantined")), count("quarantined") ? `${count("quarantined")} quarantined` : ""),
    open ? card("To do", whole(open), count("running") ? `${count("running")} running` : "") : "",
    card("To look at", whole(totals.flagged), "flagged"),
    card("Not segmented", whole(aside), count("refused") ? `${whole(count("refused"))} refused` : ""),
    others.length ? card("Files of no series", whole(others.reduce((sum, [, many]) => sum + many, 0)),
      others.map(([code, many]) => `${many} ${code}`).join(", ")) : "",
    card("Time a case", duration(totals.median_seconds), "median"),
    card("Peak memory", totals.peak_memory_mb ? `${figure(totals.peak_memory_mb)} MB` : "–"));
  const parts = Object.keys(STATES).filter((state) => count(state)).map((state) => {
    const part = make("i", { class: state, title: `${count(state)} ${STATES[state]}` });
    part.style.flexGrow = count(state);
    return part;
  });
  const bar = document.getElementById("bar");
  bar.replaceChildren(...parts);
  bar.setAttribute("aria-label", parts.map((part) => part.title).join(", "));
}

function showFilters() {
  const { states, flags } = source.report.totals;
  const chips = Object.keys(STATES).filter((state) => states[state]).map((state) => make("button", {
    type: "button", "data-state": state, "aria-pressed": String(wish.states.has(state)),
    onclick: (event) => {
      if (!wish.states.delete(state)) wish.states.add(state);
      event.currentTarget.setAttribute("aria-pressed", String(wish.states.has(state)));
      showRows();
    } }, `${STATES[state]} `, make("span", { class: "quiet" }, String(states[state]))));
  document.getElementById("states").replaceChildren(...chips);
  const select = document.getElementById("flag");
  if (select === document.activeElement) return; // it may be open
  const options = [["", "any"], ["*", "flagged"], ...Object.entries(flags).map(([code, many]) => [code, `${code} (${many})`])];
  select.replaceChildren(
    ...options.map(([value, text]) => make("option", { value, selected: value === wish.flag }, text)));
}

function showAll() {
  const focused = document.activeElement;
  const names = { "data-state": "#states button", "data-key": "#cases tr", "data-column": "#cases th" };
  const [name, kind] = Object.entries(names).find(([name]) => focused.closest(`[${name}]`)) ?? [];
  const value = name && focused.closest(`[${name}]`).getAttribute(name);
  showTotals();
  showFilters();
  showRows();
  showCohorts(openCase);
  if (name) { // what had the focus was made anew
    const again = document.querySelector(`${kind}[${name}="${CSS.escape(value)}"]`);
    (again?.matches("button") ? again : again?.querySelector("button"))?.focus({ preventScroll: true });
  }
}

function rowOf(element) {
  const key = element.closest("tr[data-key]")?.dataset.key;
  return source.report.rows.find((row) => row.key === key);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

function onKey(event) {
  const typing = ["INPUT", "SELECT"].includes(document.activeElement.tagName);
  const dialog = document.getElementById("detail");
  if (dialog.open) {
    const step = { ArrowLeft: "←", ArrowRight: "→" }[event.key];
    if (step && !typing && document.activeElement !== viewer.canvas) {
      [...dialog.querySelectorAll("header button")].find((one) => one.textContent === step)?.click();
    }
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    document.getElementById("search").focus();
  } else if (["ArrowUp", "ArrowDown"].includes(event.key) && document.activeElement.matches("button.open")) {
    event.preventDefault();
    const row = document.activeElement.closest("tr");
    const next = event.key === "ArrowUp" ? row.previousElementSibling : row.nextElementSibling;
    next?.querySelector("button.open")?.focus();
  }
}

async function watch() {
  const live = document.getElementById("live");
  try {
    if (await source.refresh()) showAll();
    live.textContent = source.report.run.finished ? "ended" : "live";
    live.className = "pill done";
  } catch {
    live.textContent = "the server does not answer";
    live.className = "pill failed";
  }
  setTimeout(watch, EVERY_MS);
}

document.querySelector("#cases tbody").addEventListener("click", (event) => openCase(rowOf(event.target)));
document.getElementById("search").addEventListener("input", (event) => { wish.text = event.target.value; showRows(); });
document.getElementById("flag").addEventListener("change", (event) => { wish.flag = event.target.value; showRows(); });
document.getElementById("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
document.getElementById("print").addEventListener("click", () => window.print());
document.addEventListener("keydown", onKey);
window.addEventListener("beforeprint", () => more(Infinity));
const end = document.querySelector("footer");
const scrolled = new IntersectionObserver((seen) => {
  if (!seen.some((one) => one.isIntersecting) || made >= shown.length) return;
  more();
  scrolled.unobserve(end); // it says something again only if it is looked at anew
  scrolled.observe(end);
}, { rootMargin: "800px" });
scrolled.observe(end);
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
showAll();
if (source.live) watch();
