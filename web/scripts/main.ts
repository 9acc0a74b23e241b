// Makes server-rendered pages live. Every page works without it.
import { startCharts } from "./chart";
import { startExplore } from "./explore";
import { startExpressions } from "./expressions";
import { startGraph } from "./graph";
import { startKeys } from "./keys";
import { startLive } from "./live";
import { startReplay } from "./replay";
import { startSaving } from "./save";
import { startThemeSwitch } from "./switch";
import { startTimes } from "./times";
import { startTraffic } from "./traffic";
import { startZoom } from "./zoom";

startThemeSwitch();
startCharts();
startExplore();
startGraph();
startKeys();
startTraffic();
startZoom();
startExpressions();
startSaving();
startReplay();
startLive();
startTimes();
