// Plays the service graph through the past: a slider sets the time of the page, the server draws each moment.
import { refresh } from "./live";

const FRAME_MS = 1200;
/** A slider that is dragged asks no more often than this. */
const DRAG_MS = 200;

export function startReplay(): void {
  const place = document.querySelector<HTMLElement>("[data-replay]");
  const slider = place?.querySelector<HTMLInputElement>("input");
  const button = place?.querySelector<HTMLButtonElement>("[data-play]");
  const output = place?.querySelector("output");
  if (!place || !slider || !button || !output) return;
  const { from, to, step, at } = place.dataset;
  const newest = Number(to);
  const live = !new URL(location.href).searchParams.has("at");
  slider.min = String(from);
  slider.max = String(to);
  slider.step = String(step);
  slider.value = String(at);
  place.hidden = false;
  let timer: number | undefined;
  let drag: number | undefined;

  const say = (): void => {
    const seconds = Number(slider.value);
    output.textContent = seconds >= newest ? "newest" : new Date(seconds * 1000).toLocaleString("en-GB");
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  const show = async (): Promise<boolean> => {
    const url = new URL(location.href);
    const seconds = Number(slider.value);
    // The newest moment of a page that was live is live again.
    if (seconds >= newest && live) url.searchParams.delete("at");
    else url.searchParams.set("at", new Date(seconds * 1000).toISOString());
    history.replaceState(null, "", url);
    return refresh(url.href).catch(() => false);
  };
  const stop = (): void => {
    if (timer !== undefined) clearTimeout(timer);
    timer = undefined;
    button.textContent = "Replay";
    button.setAttribute("aria-pressed", "false");
  };
  const play = async (): Promise<void> => {
    const reached = await show();
    const next = Number(slider.value) + Number(step);
    if (!reached || next > newest || button.getAttribute("aria-pressed") !== "true") return stop();
    timer = window.setTimeout(() => {
      slider.value = String(next);
      say();
      void play();
    }, FRAME_MS);
  };
  slider.addEventListener("input", () => {
    stop();
    say();
    if (drag !== undefined) clearTimeout(drag);
    drag = window.setTimeout(() => void show(), DRAG_MS);
  });
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-pressed") === "true") return stop();
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    if (Number(slider.value) + Number(step) > newest) slider.value = slider.min;
    say();
    void play();
  });
  say();
}
