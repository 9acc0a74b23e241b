// Says each moment in the reader's own time zone too, in the title. The pages themselves are in UTC.
const FORMAT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

function tell(): void {
  for (const time of document.querySelectorAll<HTMLTimeElement>("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) continue;
    const said = `${FORMAT.format(at)} (${time.dateTime})`;
    if (time.title !== said) time.title = said;
  }
}

export function startTimes(): void {
  tell();
  document.addEventListener("refreshed", tell);
}
