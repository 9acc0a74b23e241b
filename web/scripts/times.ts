// The reader's time zone: chosen in the picker, carried in the address so that a link shows the same, remembered.
// Pages are in UTC as the server makes them.

const STORED = "zone";
/** A moment as the server writes it. */
const MOMENT = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}) UTC$/;

function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en-GB", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function stored(): string | null {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null; // Storage may be forbidden.
  }
}

const own = new Intl.DateTimeFormat().resolvedOptions().timeZone;
const given = new URL(location.href).searchParams.get("tz") ?? stored() ?? "UTC";
/** The zone in which times are shown. */
export const zone = isZone(given) ? given : "UTC";

const parts = new Intl.DateTimeFormat("en-CA", {
  timeZone: zone,
  hourCycle: "h23",
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** `2026-01-31 12:00:00`, in the zone. */
export function written(at: number): string {
  const found = Object.fromEntries(parts.formatToParts(at).map(({ type, value }) => [type, value]));
  return `${found.year}-${found.month}-${found.day} ${found.hour}:${found.minute}:${found.second}`;
}

/** How the zone is called after a time. */
export const zoneName = zone === "UTC" ? "UTC" : zone.replace(/^.*\//, "").replaceAll("_", " ");

function tell(): void {
  for (const time of document.querySelectorAll<HTMLTimeElement>("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) continue;
    const said = `${local.format(at)} (${time.dateTime})`;
    if (time.title !== said) time.title = said;
    if (zone === "UTC") continue;
    const text = time.textContent ?? "";
    if (MOMENT.test(text) || text === time.dateTime) time.textContent = `${written(at)} ${zoneName}`;
  }
}

/** What is picked holds on all pages, and stands in the address of this one. */
function remember(): void {
  // An address with a zone that is none stays as it is: the page may say so.
  if (!isZone(given)) return;
  try {
    localStorage.setItem(STORED, zone);
  } catch {
    // Then it holds as long as links carry it.
  }
  const url = new URL(location.href);
  if (zone === "UTC" ? !url.searchParams.has("tz") : url.searchParams.get("tz") === zone) return;
  if (!document.querySelector("[data-picker]")) return;
  if (zone === "UTC") url.searchParams.delete("tz");
  else url.searchParams.set("tz", zone);
  history.replaceState(history.state, "", url);
}

/** The zones to choose from, the times that are shown now, and the range in words. */
function preparePicker(): void {
  const picker = document.querySelector<HTMLElement>("[data-picker]");
  const zones = picker?.querySelector<HTMLSelectElement>("[data-zones]");
  if (!picker || !zones) return;
  const names = [...new Set(["UTC", own, zone, ...Intl.supportedValuesOf("timeZone")])];
  zones.replaceChildren(...names.map((name) => new Option(name === own ? `${name} (this browser)` : name, name, name === zone, name === zone)));
  zones.addEventListener("change", () => {
    try {
      localStorage.setItem(STORED, zones.value);
    } catch {
      // The address carries it.
    }
    const url = new URL(location.href);
    url.searchParams.set("tz", zones.value);
    // Times that are typed already are sent with the form, in the zone chosen.
    const typed = [...picker.querySelectorAll<HTMLInputElement>("input[type=datetime-local]")].some((input) => input.value);
    if (!typed) location.assign(url);
  });
  const at = new URL(location.href).searchParams.get("at");
  const says = picker.querySelector("[data-says]");
  const until = at === null ? Number.NaN : Date.parse(at);
  if (says && !Number.isNaN(until) && at) says.textContent = (says.textContent ?? "").replace(at, `${written(until)} ${zoneName}`);
}

export function startTimes(): void {
  remember();
  preparePicker();
  tell();
  document.addEventListener("refreshed", () => {
    remember(); // a selection leads to an address of the server's
    tell();
  });
}
