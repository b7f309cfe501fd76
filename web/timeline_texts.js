// What the timeline says, in the languages of this pack.

const TEXTS = {
  en: {
    empty: "Run to see the timeline",
    mouth: "mouth",
    blink: "blink",
    gain: "gain",
    edited: "edited · run to apply",
    broken: "gain_points is not a list of [seconds, gain] pairs",
    wired: "gain_points comes from its input",
    hint: "click to add a point",
    label: "Timeline of the mouth",
  },
  zh: {
    empty: "运行后显示时间轴",
    mouth: "嘴部",
    blink: "眨眼",
    gain: "增益",
    edited: "已修改 · 运行后生效",
    broken: "gain_points 不是 [秒, 增益] 的列表",
    wired: "gain_points 来自其输入",
    hint: "单击添加点",
    label: "嘴部时间轴",
  },
  ja: {
    empty: "実行するとタイムラインが表示されます",
    mouth: "口",
    blink: "まばたき",
    gain: "倍率",
    edited: "変更あり · 実行で反映",
    broken: "gain_points が [秒, 倍率] の組の一覧ではありません",
    wired: "gain_points は入力から来ます",
    hint: "クリックで点を追加",
    label: "口のタイムライン",
  },
  ko: {
    empty: "실행하면 타임라인이 표시됩니다",
    mouth: "입",
    blink: "깜박임",
    gain: "배율",
    edited: "수정됨 · 실행하면 적용",
    broken: "gain_points가 [초, 배율] 쌍의 목록이 아닙니다",
    wired: "gain_points는 입력에서 옵니다",
    hint: "클릭하면 점 추가",
    label: "입 타임라인",
  },
};

// of the curve that Audio2Exp takes
const ALPHA = {
  en: { gain: "alpha", broken: "alpha_points is not a list of [seconds, factor] pairs" },
  zh: { gain: "alpha", broken: "alpha_points 不是 [秒, 系数] 的列表" },
  ja: { gain: "alpha", broken: "alpha_points が [秒, 係数] の組の一覧ではありません" },
  ko: { gain: "alpha", broken: "alpha_points가 [초, 계수] 쌍의 목록이 아닙니다" },
};

/**
 * All texts in a language of the page such as "zh" or "zh-TW"; English for those not known.
 *
 * curve: name of the widget that holds the curve.
 */
export function textsOf(locale, curve = "gain_points") {
  const language = String(locale ?? "en").split("-")[0];
  const texts = TEXTS[language] ?? TEXTS.en;
  if (curve === "gain_points") return texts;
  const { gain, broken } = ALPHA[language] ?? ALPHA.en;
  return { ...texts, gain, broken, wired: texts.wired.replace("gain_points", curve) };
}
