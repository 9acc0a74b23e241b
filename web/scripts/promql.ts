// What stands at the cursor of a PromQL text, so that the right names can be offered. Pure.

/** Aggregations and words of the language that are no functions. */
export const KEYWORDS = [
  "and", "atan2", "avg", "bool", "bottomk", "by", "count", "count_values", "group", "group_left", "group_right", "ignoring",
  "limitk", "limit_ratio", "max", "min", "offset", "on", "or", "quantile", "stddev", "stdvar", "sum", "topk", "unless", "without",
];
const GROUPING = ["by", "without", "on", "ignoring", "group_left", "group_right"];
export const DURATIONS = ["1m", "2m", "5m", "10m", "15m", "30m", "1h", "6h", "1d"];

export interface Place {
  kind: "expression" | "label" | "value" | "duration" | "nothing";
  /** What is typed of it already. */
  word: string;
  /** The metric whose labels are meant, when it is known. */
  metric: string;
  /** The label whose values are meant. */
  label: string;
}

const NAME = /[a-zA-Z_:][\w:]*$/;

/** The name right before a place. */
function nameBefore(text: string): string {
  return NAME.exec(text.trimEnd())?.[0] ?? "";
}

/** What stands at the end of `before`, the text up to the cursor. */
export function placeAt(before: string): Place {
  const open: { bracket: string; name: string }[] = [];
  let quote = "";
  let quoted = 0;
  for (let at = 0; at < before.length; at += 1) {
    const letter = before[at] ?? "";
    if (quote) {
      if (letter === "\\" && quote !== "`") at += 1;
      else if (letter === quote) quote = "";
      continue;
    }
    if (letter === "#") {
      const end = before.indexOf("\n", at);
      if (end < 0) return { kind: "nothing", word: "", metric: "", label: "" };
      at = end;
    } else if (letter === '"' || letter === "'" || letter === "`") {
      quote = letter;
      quoted = at + 1;
    } else if ("({[".includes(letter)) open.push({ bracket: letter, name: nameBefore(before.slice(0, at)) });
    else if (")}]".includes(letter)) open.pop();
  }
  const inner = open.at(-1);
  const word = NAME.exec(before)?.[0] ?? "";
  if (quote) {
    const label = /([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*$/.exec(before.slice(0, quoted - 1))?.[1] ?? "";
    const isValue = inner?.bracket === "{" && label !== "";
    return { kind: isValue ? "value" : "nothing", word: before.slice(quoted), metric: inner?.name ?? "", label };
  }
  if (inner?.bracket === "{") return { kind: "label", word, metric: inner.name, label: "" };
  if (inner?.bracket === "[") return { kind: "duration", word: /[\w.]*$/.exec(before)?.[0] ?? "", metric: "", label: "" };
  if (inner?.bracket === "(" && GROUPING.includes(inner.name)) {
    // The metric that is grouped stands after it or before it; any label may be meant.
    return { kind: "label", word, metric: "", label: "" };
  }
  return { kind: "expression", word, metric: "", label: "" };
}
