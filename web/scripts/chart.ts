// Draws the answer of a PromQL range query. `data-chart` names the place, `data-query` the expression.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

const EVERY_MS = 10_000;
const POINTS = 240;
const SERIES_MAX = 40;
const COLOURS = ["#2f6fdb", "#d1622b", "#0e8a68", "#a13fb0", "#b08400", "#c02c5a", "#4b7d1e", "#0b86a3", "#7d5bd6", "#8a5a3c"];

interface Matrix {
  metric: Record<string, string>;
  values: [number, string][];
}

interface Answer {
  status: string;
  error?: string;
  data?: { resultType: string; result: Matrix[] };
}

function seriesName(metric: Record<string, string>, legend: string | undefined): string {
  if (legend && metric[legend]) return metric[legend];
  const { __name__: name = "", ...labels } = metric;
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return name + (pairs.length || !name ? `{${pairs.join(", ")}}` : "");
}

/** Puts all series on one rising list of times; a gap stays a gap. */
function align(result: Matrix[]): uPlot.AlignedData {
  const times = [...new Set(result.flatMap((series) => series.values.map(([at]) => at)))].sort((a, b) => a - b);
  const at = new Map(times.map((time, i) => [time, i]));
  const columns = result.map((series) => {
    const column: (number | null)[] = new Array(times.length).fill(null);
    for (const [time, text] of series.values) {
      const value = Number(text);
      column[at.get(time)!] = Number.isFinite(value) ? value : null;
    }
    return column;
  });
  return [times, ...columns];
}

class Chart {
  private plot: uPlot | undefined;
  private names = "";

  constructor(private readonly place: HTMLElement) {}

  async draw(): Promise<void> {
    const { query = "", range = "1800", until, legend } = this.place.dataset;
    const end = until ? Number(until) : Date.now() / 1000;
    const step = Math.max(1, Math.ceil(Number(range) / POINTS));
    const aligned = Math.floor(end / step) * step;
    const body = new URLSearchParams({
      query,
      start: String(aligned - Number(range)),
      end: String(aligned),
      step: String(step),
    });
    const answer: Answer = await (await fetch("/api/v1/query_range", { method: "POST", body })).json();
    if (answer.status !== "success" || !answer.data) return this.say(answer.error ?? "no answer");
    const result = answer.data.result.slice(0, SERIES_MAX);
    if (result.length === 0) return this.say("No samples in this range.");
    this.show(result.map((series) => seriesName(series.metric, legend)), align(result));
  }

  /** Draws anew with the colours of the theme that now holds. */
  repaint(): void {
    this.names = "";
    void this.draw();
  }

  private show(names: string[], data: uPlot.AlignedData): void {
    if (this.plot && this.names === names.join("\n")) {
      this.plot.setData(data);
      return;
    }
    this.names = names.join("\n");
    this.plot?.destroy();
    this.place.replaceChildren();
    const style = getComputedStyle(document.documentElement);
    const axis = { stroke: style.getPropertyValue("--ink-3"), grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { show: false } };
    this.plot = new uPlot(
      {
        width: this.place.clientWidth || 400,
        height: Math.max(220, this.place.clientHeight),
        scales: { y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
        axes: [axis, { ...axis, size: 56 }],
        cursor: { points: { size: 6 } },
        series: [
          {},
          ...names.map((label, i) => ({ label, stroke: COLOURS[i % COLOURS.length]!, width: 1.6, spanGaps: false, points: { show: false } })),
        ],
      },
      data,
      this.place,
    );
  }

  private say(text: string): void {
    this.plot?.destroy();
    this.plot = undefined;
    this.names = "";
    const line = document.createElement("p");
    line.className = "muted";
    line.textContent = text;
    this.place.replaceChildren(line);
  }

  resize(): void {
    this.plot?.setSize({ width: this.place.clientWidth, height: this.plot.height });
  }
}

export function startCharts(): void {
  const charts = [...document.querySelectorAll<HTMLElement>("[data-chart]")].map((place) => new Chart(place));
  if (charts.length === 0) return;
  const draw = (): void => {
    if (document.hidden) return;
    for (const chart of charts) chart.draw().catch(() => undefined); // the server is away: the next round asks again
  };
  draw();
  setInterval(draw, EVERY_MS);
  document.addEventListener("themechange", () => charts.forEach((chart) => chart.repaint()));
  addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
}
