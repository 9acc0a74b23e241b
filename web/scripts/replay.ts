// Plays the service graph through the past. One question gives all frames of the film; the drawing of the whole time stays
// where it is, and each frame colours and numbers it. Where the slider stops, the server draws that moment with all facts.
import { hold, refresh, written as overwritten } from "./live";
import { written, zoneName } from "./times";

const FRAME_MS = 900;
/** A slider that is dragged without a film asks no more often than this. */
const DRAG_MS = 200;
const HEALTH = ["healthy", "degraded", "failure", "idle"];

interface Cell {
  edge: number;
  health: string;
  requestsPerSecond: number;
  errorRatio?: number;
  bytesPerSecond: number;
}

interface Frame {
  from: string;
  to: string;
  requestsPerSecond: number;
  errorRatio?: number;
  failedEdges: number;
  edges: Cell[];
}

interface Film {
  edges: { id: string }[];
  frames: Frame[];
}

const rate = (perSecond: number): string =>
  `${perSecond >= 100 ? perSecond.toFixed(0) : perSecond >= 10 ? perSecond.toFixed(1) : perSecond.toFixed(2)}/s`;
const percent = (share: number): string => `${(share * 100).toFixed(share < 0.01 ? 2 : 1)}%`;

function numbers(cell: Cell): string {
  if (cell.requestsPerSecond <= 0) return cell.bytesPerSecond > 0 ? `${(cell.bytesPerSecond / 1000).toFixed(1)} kB/s` : "idle";
  const failed = cell.errorRatio ?? 0;
  return failed > 0 ? `${rate(cell.requestsPerSecond)} · ${percent(failed)} err` : rate(cell.requestsPerSecond);
}

function dress(part: Element, health: string): void {
  part.classList.remove(...HEALTH);
  part.classList.add(health);
}

/** Colours and numbers the drawing as it was in a frame. */
function paint(svg: SVGSVGElement, film: Film, frame: Frame): void {
  const cells = new Map(frame.edges.map((cell) => [film.edges[cell.edge]?.id ?? "", cell]));
  const worst = new Map<string, number>();
  const inbound = new Map<string, number>();
  const ends = new Map<string, Cell>();
  for (const edge of svg.querySelectorAll<SVGElement>("a.edge")) {
    const cell = cells.get(edge.dataset.id ?? "");
    const health = cell?.health ?? "idle";
    dress(edge, health);
    edge.classList.toggle("far", !cell);
    edge.querySelector(".line")?.setAttribute("marker-end", `url(#arrow-${health})`);
    const target = edge.dataset.target ?? "";
    if (!cell) continue;
    ends.set(`${edge.dataset.source}>${target}`, cell);
    const rank = { healthy: 1, degraded: 2, failure: 3 }[health] ?? 0;
    worst.set(target, Math.max(worst.get(target) ?? 0, rank));
    inbound.set(target, (inbound.get(target) ?? 0) + cell.requestsPerSecond);
    if (!worst.has(edge.dataset.source ?? "")) worst.set(edge.dataset.source ?? "", rank > 0 ? 1 : 0);
  }
  for (const label of svg.querySelectorAll<SVGElement>("g.edge")) {
    const cell = ends.get(`${label.dataset.source}>${label.dataset.target}`);
    dress(label, cell?.health ?? "idle");
    const text = label.querySelector("text");
    if (text) text.textContent = cell ? numbers(cell) : "";
    label.classList.toggle("far", !cell);
  }
  for (const node of svg.querySelectorAll<SVGElement>("a.node")) {
    const id = node.dataset.id ?? "";
    const rank = worst.get(id);
    dress(node, ["idle", "healthy", "degraded", "failure"][rank ?? 0] ?? "idle");
    node.classList.toggle("far", rank === undefined);
    const text = node.querySelector(".numbers");
    const arrives = inbound.get(id);
    if (text) text.textContent = arrives ? rate(arrives) : rank === undefined ? "idle" : "";
  }
  // The film's numbers are not the page's: what comes next replaces them even where it is what came last.
  for (const part of ["totals", "drawing"]) overwritten(document.querySelector(`[data-live="${part}"]`));
  const tiles = document.querySelectorAll('[data-live="totals"] .value');
  const totals = [rate(frame.requestsPerSecond), frame.errorRatio === undefined ? "–" : percent(frame.errorRatio), undefined, String(frame.failedEdges)];
  totals.forEach((text, at) => {
    const tile = tiles[at];
    if (tile && text !== undefined) tile.textContent = text;
  });
}

/** The film as a strip: how much failed in each frame. */
function strip(place: HTMLElement, film: Film, at: number): void {
  const svg = place.querySelector("svg");
  const words = place.querySelector("p");
  if (!svg || !words) return;
  const most = Math.max(0.01, ...film.frames.map((frame) => frame.errorRatio ?? 0));
  const width = 600 / Math.max(1, film.frames.length);
  svg.replaceChildren(
    ...film.frames.map((frame, n) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const height = 4 + ((frame.errorRatio ?? 0) / most) * 36;
      const attributes = { x: n * width, width: Math.max(0.5, width - 1), y: 40 - height, height };
      for (const [name, value] of Object.entries(attributes)) bar.setAttribute(name, String(value));
      bar.setAttribute("class", `${frame.failedEdges > 0 ? "failure" : (frame.errorRatio ?? 0) > 0 ? "degraded" : "healthy"}${n === at ? " now" : ""}`);
      return bar;
    }),
  );
  const worst = film.frames.reduce((a, b) => ((b.errorRatio ?? 0) > (a.errorRatio ?? 0) ? b : a), film.frames[0] as Frame);
  words.textContent = worst?.errorRatio
    ? `Errors over the film, ${percent(worst.errorRatio)} of all requests at most, at ${written(Date.parse(worst.from))} ${zoneName}.`
    : "No request failed in this time.";
  place.hidden = false;
}

export function startReplay(): void {
  const place = document.querySelector<HTMLElement>("[data-replay]");
  const slider = place?.querySelector<HTMLInputElement>("input");
  const button = place?.querySelector<HTMLButtonElement>("[data-play]");
  const output = place?.querySelector("output");
  const svg = document.querySelector<SVGSVGElement>("[data-canvas] .scroll > svg");
  const film = document.querySelector<HTMLElement>("[data-film]");
  if (!place || !slider || !button || !output || !svg || !film) return;
  const { from, to, step, at } = place.dataset;
  const [oldest, newest, length] = [Number(from), Number(to), Number(step)];
  const live = !new URL(location.href).searchParams.has("at");
  slider.min = String(from);
  slider.max = String(to);
  slider.step = String(step);
  slider.value = String(at);
  place.hidden = false;
  let timer: number | undefined;
  let drag: number | undefined;
  let loading: Promise<Film | undefined> | undefined;
  let loaded: Film | undefined;
  /** Whether the drawing is that of the whole film. */
  let whole = false;

  const say = (): void => {
    const seconds = Number(slider.value);
    output.textContent = seconds >= newest ? "newest" : `${written(seconds * 1000)} ${zoneName}`;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  const load = (): Promise<Film | undefined> => {
    const asked = new URL(location.href).searchParams;
    const query = new URLSearchParams({ from: String(oldest), to: String(newest), step: `${length}s`, view: asked.get("view") ?? "workload" });
    loading ??= fetch(`/api/mesh/v1/graph/replay?${query}`)
      .then(async (reply) => (reply.ok ? ((await reply.json()) as { data: Film }).data : undefined))
      .then((data) => {
        if (!data) loading = undefined;
        loaded = data && data.frames.length > 0 ? data : undefined;
        return loaded;
      })
      .catch(() => (loading = undefined));
    return loading;
  };
  const frameAt = (all: Film): number => {
    const time = Number(slider.value) * 1000;
    const found = all.frames.findIndex((frame) => Date.parse(frame.to) >= time);
    return found < 0 ? all.frames.length - 1 : found;
  };
  const show = async (): Promise<void> => {
    const url = new URL(location.href);
    const seconds = Number(slider.value);
    // The newest moment of a page that was live is live again.
    if (seconds >= newest && live) url.searchParams.delete("at");
    else url.searchParams.set("at", new Date(seconds * 1000).toISOString());
    history.replaceState(null, "", url);
    whole = false;
    await refresh(url.href).catch(() => false);
  };
  /** Draws all that had traffic at any time of the film. */
  const unroll = async (): Promise<void> => {
    if (whole) return;
    const url = new URL(location.href);
    url.searchParams.set("range", `${newest - oldest}s`);
    url.searchParams.set("at", new Date(newest * 1000).toISOString());
    url.searchParams.delete("compare");
    url.searchParams.delete("select");
    whole = await refresh(url.href).catch(() => false);
  };
  const stop = (): void => {
    if (timer !== undefined) clearTimeout(timer);
    timer = undefined;
    button.textContent = "Replay";
    button.setAttribute("aria-pressed", "false");
    hold(false);
  };
  const frame = (): void => {
    if (!loaded) return;
    const n = frameAt(loaded);
    const shown = loaded.frames[n];
    if (shown) paint(svg, loaded, shown);
    strip(film, loaded, n);
  };
  const play = (): void => {
    say();
    frame();
    const next = Number(slider.value) + length;
    timer = window.setTimeout(() => {
      if (next > newest) {
        stop();
        void show();
        return;
      }
      slider.value = String(next);
      play();
    }, FRAME_MS);
  };
  slider.addEventListener("input", () => {
    stop();
    say();
    if (loaded && whole) {
      hold(true);
      return frame();
    }
    void load().then((all) => all && strip(film, all, frameAt(all)));
    if (drag !== undefined) clearTimeout(drag);
    drag = window.setTimeout(() => void show(), DRAG_MS);
  });
  // Where it is let go, all facts of that moment are shown.
  slider.addEventListener("change", () => {
    if (!whole) return;
    stop();
    void show();
  });
  film.querySelector("svg")?.addEventListener("click", (event) => {
    const box = film.querySelector("svg")?.getBoundingClientRect();
    if (!box) return;
    const share = (event.clientX - box.left) / box.width;
    slider.value = String(oldest + Math.round((share * (newest - oldest)) / length) * length);
    stop();
    say();
    if (loaded) strip(film, loaded, frameAt(loaded));
    void show();
  });
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-pressed") === "true") {
      stop();
      void show();
      return;
    }
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    if (Number(slider.value) + length > newest) slider.value = slider.min;
    say();
    hold(true);
    void load().then(async (all) => {
      await unroll();
      if (button.getAttribute("aria-pressed") !== "true") return;
      if (!all || !whole) {
        output.textContent = "The film could not be had.";
        return stop();
      }
      // A young mesh has nothing to show for the most of the time.
      const first = all.frames.find((frame) => frame.edges.length > 0);
      if (first && Number(slider.value) * 1000 < Date.parse(first.to)) slider.value = String(Date.parse(first.to) / 1000);
      play();
    });
  });
  say();
}
