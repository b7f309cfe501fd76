// A button under the scoring nodes that opens the HTML report of the last run.
// ComfyUI's /view only downloads HTML files; the button fetches the page and shows it in a tab of its own, in a frame
// without scripts or access to ComfyUI's page.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODES = ["PortraitTalkCompareVideos", "PortraitTalkScoreWithoutReference"];
const OUTPUT = "portraittalk_report";
const TEXTS = { en: "Open the report", zh: "打开报告", ja: "レポートを開く", ko: "보고서 열기" };
const NONE = { en: "Run to make a report", zh: "运行后生成报告", ja: "実行するとレポートができます", ko: "실행하면 보고서가 만들어집니다" };

/** A text in the page's language. */
function said(texts) {
  return texts[app.extensionManager?.setting?.get?.("Comfy.Locale")] ?? texts.en;
}

/** What the page calls a node: inside a subgraph with the subgraph's own name. */
function nameOf({ graph, id }) {
  return graph?.isRootGraph === false ? `${graph.id}:${id}` : String(id);
}

/** Fetch the report and show it; the tab is opened at once, while the browser still counts it as the user's click. */
async function open(node) {
  const report = node.portraittalkReport ?? app.nodeOutputs?.[nameOf(node)]?.[OUTPUT]?.[0];
  const tab = report && window.open("", "_blank");
  if (!tab) return;
  const answer = await api.fetchApi(`/view?${new URLSearchParams(report)}`);
  tab.document.title = report.filename;
  tab.document.body.style.margin = "0";
  const frame = tab.document.createElement("iframe");
  frame.sandbox = "";
  frame.style.cssText = "border:0;width:100vw;height:100vh;display:block";
  frame.srcdoc = answer.ok ? await answer.text() : `${report.filename}: ${answer.status}`;
  tab.document.body.append(frame);
}

app.registerExtension({
  name: "PortraitTalk.Report",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass) || !node.addWidget) return;
    const button = node.addWidget("button", "open_report", null, () => open(node), { serialize: false });
    button.serialize = false;
    button.label = said(NONE);
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      node.portraittalkReport = output?.[OUTPUT]?.[0];
      button.label = said(node.portraittalkReport ? TEXTS : NONE);
      node.setDirtyCanvas?.(true, true);
    };
  },
});
