// Where a node of this pack has shown its video while it was made, the page keeps the last of these pictures once the
// video is there: above it or instead of it with classic nodes, and as a video that cannot be loaded with newer ones.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const PICTURES = ["$$canvas-image-preview", "$$comfy_animation_preview"]; // what classic nodes show pictures in

/** What the page calls a node: inside a subgraph with the subgraph's own name. */
function nameOf({ graph, id }) {
  return graph?.isRootGraph === false ? `${graph.id}:${id}` : String(id);
}

/** Let go of the pictures that a node showed while it ran. */
function forgetPreviews(node) {
  const name = nameOf(node);
  const page = document.getElementById("vue-app")?.__vue_app__;
  const outputs = page?.config?.globalProperties?.$pinia?._s?.get("nodeOutput");
  outputs?.revokePreviewsByLocatorId?.(name);
  if (app.nodePreviewImages) delete app.nodePreviewImages[name]; // where the page has no such store
  node.setDirtyCanvas?.(true, true);
}

const picturesOf = (node) => (node.widgets ?? []).filter(({ name }) => PICTURES.includes(name));

/** Take the last picture from a classic node that shows its video; the page may have read it after the video. */
function removePictures(node) {
  node.imgs = undefined;
  node.imageIndex = null;
  for (const widget of picturesOf(node)) {
    widget.onRemove?.();
    node.widgets.splice(node.widgets.indexOf(widget), 1);
  }
}

let run = 0; // the number of the page's latest run
api.addEventListener("execution_start", () => run++);

app.registerExtension({
  name: "PortraitTalk.Previews",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("PortraitTalk")) return;
    const { onExecuted: executed, onDrawBackground: draw } = node;
    let videoOf = -1; // the run whose video is shown; of a later one pictures are welcome
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (!output?.animated?.[0]) return;
      videoOf = run;
      forgetPreviews(node);
    };
    node.onDrawBackground = function () {
      draw?.apply(this, arguments);
      if (videoOf === run && (this.imgs?.length || picturesOf(this).length)) removePictures(this);
    };
  },
});
