"use strict";
// Where the page's data come from: from itself, or, while a run is watched, from its server.

/** Makes an element; text goes in as text, never as HTML. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function textOf(id) {
  return document.getElementById(id).textContent;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
}

const source = {
  report: JSON.parse(textOf("data")),
  planes: JSON.parse(textOf("planes")),

  get live() {
    return this.report.live;
  },

  address(row, file) {
    return `cases/${encodeURIComponent(row.key)}/${file}`;
  },

  /** What an <img> shows of a case, or null. */
  picture(row) {
    if (this.live) return row.files.snapshot ? this.address(row, "planes.webp") : null;
    const planes = this.planes[row.key];
    return planes ? `data:image/webp;base64,${planes}` : null;
  },

  /** Image and mask of a case as gzipped NIfTI, or null if the page holds none. */
  async volumes(row) {
    if (!row.files.snapshot) return null;
    if (this.live) {
      const [image, mask] = await Promise.all(["image.nii.gz", "mask.nii.gz"].map(async (file) => {
        const answer = await fetch(this.address(row, file));
        return answer.ok ? answer.arrayBuffer() : null;
      }));
      return image && mask ? { image, mask } : null;
    }
    const found = {};
    for (const part of ["image", "mask"]) {
      const element = document.querySelector(
        `script.volume[data-key="${CSS.escape(row.key)}"][data-part="${part}"]`);
      if (!element) return null;
      found[part] = bytesOf(element.textContent);
    }
    return found;
  },

  /** Asks the server for the newest rows; true if there were any. */
  async refresh() {
    const answer = await fetch("report.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const text = await answer.text();
    if (text === this.last) return false;
    this.last = text;
    this.report = { ...JSON.parse(text), live: true };
    return true;
  },
};

const STATES = {
  done: "done",
  running: "running",
  found: "waiting",
  failed: "failed",
  quarantined: "quarantined",
  refused: "refused",
  "does-not-fit": "does not fit",
};

function statePill(row) {
  return make("span", { class: `pill ${row.state}` }, STATES[row.state] ?? row.state);
}

/** A number as people write it: three or four figures, thousands set apart. */
function figure(number, digits = 3) {
  if (number === null || number === undefined) return "–";
  const decimals = number === 0 ? 0 : Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(number))));
  return number.toLocaleString("en", {
    minimumFractionDigits: Math.min(decimals, 3), maximumFractionDigits: Math.min(decimals, 3),
  });
}

const MEASURES = [["volumes_ml", "ml"], ["areas_mm2", "mm²"], ["pixels", "pixels"]];

/** How large the structures of a case are, in the unit that says most: { unit, sizes }. */
function measured(row) {
  const [key, unit] = MEASURES.find(([key]) => Object.keys(row[key]).length) ?? MEASURES[0];
  return { unit, sizes: row[key] };
}

/** The size of a structure in the unit of most cases, or undefined. */
function sizeOf(row, name) {
  const { unit, sizes } = measured(row);
  return unit === source.report.unit ? sizes[name] : undefined;
}

function whole(number) {
  return number.toLocaleString("en");
}

/** Seconds as "2.31 s", "4 min 10 s" or "3 h 20 min". */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 100) return `${figure(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

/** "2026-11-21T15:04:05+00:00" → "2026-11-21 15:04 UTC". */
function moment(text) {
  return text ? `${text.slice(0, 10)} ${text.slice(11, 16)} UTC` : "";
}
