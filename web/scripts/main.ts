// Makes server-rendered pages live. Every page works without it.
import { startCharts } from "./chart";
import { startExplore } from "./explore";
import { startGraph } from "./graph";
import { startLive } from "./live";
import { startThemeSwitch } from "./switch";
import { startTimes } from "./times";

startThemeSwitch();
startCharts();
startExplore();
startGraph();
startLive();
startTimes();
