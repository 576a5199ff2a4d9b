// The viewer: NiiVue over an image and its mask, in one canvas that every case uses.

const VIEWS = { slices: "Slices + 3D", axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", render: "3D" };
const OPACITY = 0.55;

const viewer = {
  canvas: null,
  nv: null,
  opacity: OPACITY,
  view: "slices",

  /** Why there is no viewer; "" if there is one. */
  get lacks() {
    if (this.known === undefined) {
      if (typeof niivue === "undefined") this.known = "The 3D viewer was not installed: pip install nestseg-bundles, then nestseg report.";
      else if (!document.createElement("canvas").getContext("webgl2"))
        this.known = "The viewer needs WebGL 2, which this browser does not offer here; the planes below need nothing.";
      else this.known = "";
    }
    return this.known;
  },

  async start() {
    const stage = document.querySelector("#detail .stage");
    stage.classList.remove("empty");
    if (this.canvas) this.canvas.hidden = false;
    if (this.nv) return;
    this.canvas = make("canvas", { id: "viewer", tabindex: "0", "aria-label": "Image with mask: drag or use the wheel" });
    stage.prepend(this.canvas);
    this.nv = new niivue.Niivue({
      backColor: [0.05, 0.06, 0.07, 1], crosshairColor: [1, 1, 1, 0.45], crosshairWidth: 0.3, show3Dcrosshair: true,
      dragAndDropEnabled: false, isColorbar: false, isRadiologicalConvention: true, loadingText: "",
      logLevel: "error", multiplanarShowRender: 1, multiplanarLayout: 0, sagittalNoseLeft: true,
    });
    await this.nv.attachToCanvas(this.canvas);
  },

  /** Colours of the places of labels in a snapshot's mask, or of the values in a mask file. */
  colours(values) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0] };
    source.report.labels.forEach((label, index) => {
      [1, 3, 5].forEach((at, channel) =>
        table["RGB"[channel]].push(parseInt(label.colour.slice(at, at + 2), 16)));
      table.A.push(255);
      table.I.push(values ? values[index] : index + 1);
    });
    return table;
  },

  /** Shows an image and a mask: {buffer, name} each; the mask may be null. */
  async show(image, mask, values = null) {
    await this.start();
    const { nv } = this;
    while (nv.volumes.length) nv.removeVolume(nv.volumes[0]);
    nv.addVolume(await niivue.NVImage.new(image.buffer, image.name, "gray"));
    if (mask) {
      const overlay = await niivue.NVImage.new(mask.buffer, mask.name, "gray", this.opacity);
      overlay.setColormapLabel(this.colours(values));
      nv.addVolume(overlay);
    }
    nv.updateGLVolume();
    if (mask) this.lookAt(nv.volumes[1]);
    this.setView(this.view);
  },

  /** Puts the crosshair on the axial slice with most mask, in the middle of the mask there. */
  lookAt(overlay) {
    const [, x, y, z] = overlay.dimsRAS;
    const voxels = overlay.img2RAS();
    let best = { many: 0 };
    for (let k = 0; k < z; k += 1) {
      const here = { many: 0, i: 0, j: 0, k };
      for (let j = 0; j < y; j += 1) {
        for (let i = 0; i < x; i += 1) {
          if (voxels[i + x * (j + y * k)]) { here.many += 1; here.i += i; here.j += j; }
        }
      }
      if (here.many > best.many) best = here;
    }
    const middle = [best.i / best.many, best.j / best.many, best.k];
    if (best.many) this.nv.scene.crosshairPos = [x, y, z].map((size, axis) => (middle[axis] + 0.5) / size);
  },

  async showCase(volumes) {
    await this.show(
      { buffer: volumes.image, name: "image.nii.gz" }, { buffer: volumes.mask, name: "mask.nii.gz" });
  },

  /** Files that the reader chose: the mask is the one called so, or the second. */
  async showFiles(files) {
    const masks = [...files].filter((file) => /_seg\.nii(\.gz)?$/i.test(file.name));
    const images = [...files].filter((file) => !masks.includes(file));
    const [image, mask] = images.length ? [images[0], masks[0] ?? images[1]] : [masks[0], masks[0]];
    const read = async (file) => file && { buffer: await file.arrayBuffer(), name: file.name };
    const values = Object.keys(source.report.run.labels).map(Number).sort((a, b) => a - b);
    await this.show(await read(image), await read(mask), values.length ? values : null);
  },

  setView(view) {
    this.view = view;
    const { nv } = this;
    const types = { slices: nv.sliceTypeMultiplanar, axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal,
      sagittal: nv.sliceTypeSagittal, render: nv.sliceTypeRender };
    nv.setSliceType(types[view]);
  },

  setOpacity(opacity) {
    this.opacity = opacity;
    if (this.nv && this.nv.volumes.length > 1) this.nv.setOpacity(1, opacity);
  },
};
