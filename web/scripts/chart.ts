// Draws the answer of a PromQL range query. `data-chart` names the place, `data-query` the expression.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { written, zone, zoneName } from "./times";
import { zoomTo } from "./zoom";

const EVERY_MS = 10_000;
const POINTS = 240;
const SERIES_MAX = 40;
/** Room for the numbers beside the plot. */
const AXIS_WIDTH = 62;
/** Readable on both themes; the dashes tell a second round of them apart. */
const COLOURS = ["#3b7be0", "#d1622b", "#12936f", "#b04fc0", "#b08400", "#d6456f", "#5f9030", "#1190b0", "#8467dd", "#9a6a4a"];
const DASHES = [[], [7, 4], [2, 3]];

interface Matrix {
  metric: Record<string, string>;
  values: [number, string][];
}

interface Answer {
  status: string;
  error?: string;
  data?: { resultType: string; result: Matrix[] };
}

/** A change of what is declared, marked on all charts. */
interface Change {
  time: string;
  kind: string;
  namespace: string;
  name: string;
  generation: number;
  action: string;
  fields: { path: string; before?: string; after?: string }[];
}

const MARKS_MAX = 50;
/** Charts of one page ask for one range: one answer serves them all. */
const asked = new Map<string, Promise<Change[]>>();

function changesOf(start: number, end: number): Promise<Change[]> {
  const parameters = new URLSearchParams({ from: String(start), to: String(end), limit: String(MARKS_MAX) }).toString();
  const known = asked.get(parameters);
  if (known) return known;
  if (asked.size > 8) asked.clear();
  const reply = fetch(`/api/mesh/v1/changes?${parameters}`)
    .then((answer) => (answer.ok ? answer.json() : undefined))
    .then((answer: { data?: { changes: Change[] } } | undefined) => answer?.data?.changes ?? [])
    .catch(() => [] as Change[]); // a chart without marks is a chart all the same
  asked.set(parameters, reply);
  return reply;
}

function changeText(change: Change): string {
  const place = change.namespace ? `${change.namespace}/${change.name}` : change.name;
  const shown = change.fields.slice(0, 3).map((field) => `${field.path} ${field.before ?? "(none)"} → ${field.after ?? "(none)"}`);
  const more = change.fields.length > shown.length ? [`and ${change.fields.length - shown.length} more`] : [];
  const at = `${written(Date.parse(change.time))} ${zoneName}`;
  return [`${at}: ${change.kind} ${place}, generation ${change.generation} ${change.action}`, ...shown, ...more].join("\n");
}

/** One name has one colour on all charts of a page. */
const numbers = new Map<string, number>();

function lookOf(name: string): { stroke: string; dash: number[] } {
  const at = numbers.get(name) ?? numbers.size;
  numbers.set(name, at);
  const dash = DASHES[Math.floor(at / COLOURS.length) % DASHES.length] ?? [];
  return { stroke: COLOURS[at % COLOURS.length] ?? "#3b7be0", dash };
}

function seriesName(metric: Record<string, string>, legend: string | undefined): string {
  if (legend && metric[legend]) return metric[legend];
  const { __name__: name = "", ...labels } = metric;
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return name + (pairs.length > 0 || !name ? `{${pairs.join(", ")}}` : "");
}

/** Puts all series on one rising list of times; a gap stays a gap. */
function align(result: Matrix[], start: number, end: number, step: number): uPlot.AlignedData {
  const times: number[] = [];
  for (let time = start; time <= end; time += step) times.push(time);
  const columns = result.map((series) => {
    const column: (number | null)[] = new Array<number | null>(times.length).fill(null);
    for (const [time, text] of series.values) {
      const value = Number(text);
      column[Math.round((time - start) / step)] = Number.isFinite(value) ? value : null;
    }
    return column;
  });
  return [times, ...columns];
}

/** Three digits that matter, and k or M for what is large. */
function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(3));
}

class Chart {
  private plot: uPlot | undefined;
  private names = "";

  constructor(private readonly place: HTMLElement) {}

  async draw(): Promise<void> {
    const { query = "", range = "1800", until, legend } = this.place.dataset;
    const newest = until ? Number(until) : Date.now() / 1000;
    const step = Math.max(1, Math.ceil(Number(range) / POINTS));
    const end = Math.floor(newest / step) * step;
    const start = end - Math.floor(Number(range) / step) * step;
    const body = new URLSearchParams({ query, start: String(start), end: String(end), step: String(step) });
    const reply = await fetch("/api/v1/query_range", { method: "POST", body });
    const answer = (await reply.json()) as Answer;
    if (answer.status !== "success" || !answer.data) return this.say(answer.error ?? "The server gave no answer.");
    const named = answer.data.result.map((series) => ({ ...series, name: seriesName(series.metric, legend) }));
    named.sort((a, b) => (a.name < b.name ? -1 : 1));
    if (named.length === 0) return this.say(this.place.dataset.empty ?? "No samples in this range.");
    const shown = named.slice(0, SERIES_MAX);
    this.show(shown.map((series) => series.name), align(shown, start, end, step));
    this.mark(await changesOf(start, end));
    this.note(named.length > SERIES_MAX ? `The first ${SERIES_MAX} of ${named.length} series are drawn.` : "");
  }

  /** Draws anew with the colours of the theme that now holds. */
  repaint(): void {
    this.names = "";
    void this.draw().catch(() => undefined);
  }

  resize(): void {
    this.plot?.setSize({ width: this.place.clientWidth, height: this.plot.height });
  }

  private show(names: string[], data: uPlot.AlignedData): void {
    if (this.plot && this.names === names.join("\n")) {
      this.plot.setData(data);
      return;
    }
    this.names = names.join("\n");
    this.plot?.destroy();
    const frame = document.createElement("div");
    this.place.replaceChildren(frame);
    this.plot = new uPlot(this.options(names), data, frame);
  }

  /** A line for each change, with a title for the mouse and a link to its page. */
  private mark(changes: Change[]): void {
    const over = this.plot?.over;
    if (!this.plot || !over) return;
    over.querySelectorAll(".change-mark").forEach((old) => old.remove());
    for (const change of changes) {
      const left = this.plot.valToPos(Date.parse(change.time) / 1000, "x");
      if (!Number.isFinite(left) || left < 0 || left > over.clientWidth) continue;
      const mark = document.createElement("a");
      mark.className = "change-mark";
      mark.href = `/resource/${encodeURIComponent(change.kind)}/${encodeURIComponent(change.namespace || "-")}/${encodeURIComponent(change.name)}`;
      mark.title = changeText(change);
      mark.setAttribute("aria-label", mark.title);
      mark.style.left = `${left}px`;
      over.append(mark);
    }
  }

  private options(names: string[]): uPlot.Options {
    const style = getComputedStyle(document.documentElement);
    const unit = this.place.dataset.unit ?? "";
    const axis: uPlot.Axis = {
      stroke: style.getPropertyValue("--ink-3").trim(),
      grid: { stroke: style.getPropertyValue("--line").trim(), width: 1 },
      ticks: { show: false },
    };
    // Without a cursor the legend tells the newest values.
    const newest = (plot: uPlot, raw: number | null, series: number, at: number | null | undefined): number | null | undefined =>
      at === null || at === undefined ? plot.data[series]?.at(-1) : raw;
    const value = (plot: uPlot, raw: number | null, series: number, at: number | null): string => {
      const told = newest(plot, raw, series, at);
      return told === null || told === undefined ? "–" : short(told) + unit;
    };
    return {
      width: this.place.clientWidth || 400,
      height: this.place.classList.contains("tall") ? 340 : 220,
      // An empty top and a whole zero line: a flat series must not look like a cliff.
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, values: times },
        { ...axis, size: AXIS_WIDTH, values: (_, splits) => splits.map((split) => short(split) + unit) },
      ],
      // A drag asks for its time instead of stretching what is drawn already.
      cursor: {
        points: { size: 6 },
        drag: { x: true, y: false, setScale: false },
        // It may begin on the mark of a change too.
        bind: { mousedown: (_self, _target, handler) => (event) => (event.button === 0 ? handler(event) : null) },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), zone),
      hooks: { setSelect: [(plot) => this.zoomed(plot)] },
      series: [
        {
          value: (plot, raw, series, index) => {
            const at = newest(plot, raw, series, index);
            return at === null || at === undefined ? "–" : `${written(at * 1000)} ${zoneName}`;
          },
        },
        ...names.map((label) => ({ label, ...lookOf(label), width: 1.7, value, points: { show: false } })),
      ],
    };
  }

  private zoomed(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 6) return;
    const query = this.place.dataset.zoom === "explore" ? this.place.dataset.query : undefined;
    const page = query === undefined ? undefined : `/explore?${new URLSearchParams({ query })}`;
    zoomTo(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"), page);
  }

  /** A sentence instead of a plot. */
  private say(text: string): void {
    this.plot?.destroy();
    this.plot = undefined;
    this.names = "";
    this.place.replaceChildren();
    this.note(text);
  }

  private note(text: string): void {
    this.place.querySelector(".note-line")?.remove();
    if (!text) return;
    const line = document.createElement("p");
    line.className = "note-line muted small";
    line.textContent = text;
    this.place.append(line);
  }
}

/** Hours and minutes; the day where a new one begins, seconds where the marks are closer than a minute. */
function times(_: uPlot, splits: number[]): string[] {
  const close = splits.length > 1 && (splits[1] ?? 0) - (splits[0] ?? 0) < 60;
  return splits.map((split) => {
    const at = uPlot.tzDate(new Date(split * 1000), zone);
    const two = (part: number): string => String(part).padStart(2, "0");
    if (at.getHours() === 0 && at.getMinutes() === 0 && !close) {
      return at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    }
    const minutes = `${two(at.getHours())}:${two(at.getMinutes())}`;
    return close ? `${minutes}:${two(at.getSeconds())}` : minutes;
  });
}

export function startCharts(): void {
  const charts = [...document.querySelectorAll<HTMLElement>("[data-chart]")].map((place) => new Chart(place));
  if (charts.length === 0) return;
  // A chart is not drawn anew under a drag, which would be lost with it.
  let pressed = false;
  for (const [kind, on] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]] as const) {
    addEventListener(kind, () => (pressed = on), true);
  }
  const draw = (): void => {
    if (document.hidden || pressed) return;
    for (const chart of charts) chart.draw().catch(() => undefined); // the server is away: the next round asks again
  };
  draw();
  setInterval(draw, EVERY_MS);
  document.addEventListener("visibilitychange", draw);
  document.addEventListener("themechange", () => charts.forEach((chart) => chart.repaint()));
  addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
}
