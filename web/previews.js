// Where a node of this pack has shown its video while it was made, the page keeps the last of these pictures once the
// video is there: instead of it with classic nodes, and as a video that cannot be loaded with newer ones.

import { app } from "../../scripts/app.js";

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

app.registerExtension({
  name: "PortraitTalk.Previews",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("PortraitTalk")) return;
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (output?.animated?.[0]) forgetPreviews(node);
    };
  },
});
