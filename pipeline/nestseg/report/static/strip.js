// Strip plots: where the volumes of all cases lie, and where one of them does.

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** The volumes of a label: [{row, volume}], smallest first. */
function volumesOf(name) {
  return source.report.rows
    .filter((row) => row.state === "done" && sizeOf(row, name) !== undefined)
    .map((row) => ({ row, volume: sizeOf(row, name) }))
    .sort((one, other) => one.volume - other.volume);
}

function isFar(row, name) {
  return row.flags.some((flag) => ["unusual-volume", "unusual-size"].includes(flag.code) && flag.label === name);
}

/** How far along the strip a volume lies, 0 to 1. */
function place(volumes, volume) {
  const low = volumes[0].volume;
  const high = volumes[volumes.length - 1].volume;
  return high > low ? (volume - low) / (high - low) : 0.5;
}

/**
 * A tick for each case over a box from quartile to quartile, with the median.
 * `marked` is the row to point at, or null.
 */
function strip(label, volumes, marked = null) {
  const at = (volume) => (2 + 296 * place(volumes, volume)).toFixed(1);
  const svg = draw("svg", { viewBox: "0 0 300 24", preserveAspectRatio: "none", class: "strip", role: "img" });
  const { cohort } = label;
  const { unit } = source.report;
  const own = marked ? sizeOf(marked, label.name) : undefined;
  const title = draw("title", {});
  title.textContent = `${label.name}: median ${figure(cohort.median)} ${unit}, `
    + `half of ${cohort.cases} cases between ${figure(cohort.low)} and ${figure(cohort.high)} ${unit}`
    + (own === undefined ? "" : `; this case ${figure(own)} ${unit}`);
  svg.append(title);
  svg.append(draw("line", { x1: 0, x2: 300, y1: 12, y2: 12, class: "axis" }));
  const [low, high] = [at(cohort.low), at(cohort.high)];
  svg.append(draw("rect", { x: low, y: 5, width: Math.max(0.5, high - low), height: 14, class: "box" }));
  const ticks = (chosen) => chosen.map(({ volume }) => `M${at(volume)} 7V17`).join("");
  const line = (d, kind) => svg.append(draw("path", { d, class: kind, "vector-effect": "non-scaling-stroke" }));
  line(ticks(volumes.filter(({ row }) => !isFar(row, label.name))), "usual");
  line(`M${at(cohort.median)} 4V20`, "median");
  line(ticks(volumes.filter(({ row }) => isFar(row, label.name))), "far");
  if (own !== undefined) line(`M${at(own)} 1V23`, "marked");
  return svg;
}

/** The nearest case to where a strip was clicked. */
function nearest(event, volumes) {
  const box = event.currentTarget.getBoundingClientRect();
  const part = (event.clientX - box.left) / box.width;
  return volumes.reduce((best, one) =>
    Math.abs(place(volumes, one.volume) - part) < Math.abs(place(volumes, best.volume) - part) ? one : best).row;
}

/** One strip for each label, above the table. */
function showCohorts(open) {
  const parts = source.report.labels.filter((label) => label.cohort).map((label) => {
    const volumes = volumesOf(label.name);
    const svg = strip(label, volumes);
    svg.addEventListener("click", (event) => open(nearest(event, volumes)));
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = label.colour;
    const { cohort } = label;
    const { unit } = source.report;
    return make("figure", {},
      make("figcaption", {}, swatch, make("b", {}, label.name),
        make("span", { class: "quiet right" }, ` median ${figure(cohort.median)} ${unit} of ${cohort.cases}`)),
      svg,
      make("div", { class: "ends quiet" },
        make("span", {}, `${figure(volumes[0].volume)} ${unit}`),
        make("span", {}, `${figure(volumes[volumes.length - 1].volume)} ${unit}`)));
  });
  document.getElementById("cohorts").replaceChildren(...parts);
}
