// Makes server-rendered pages live. Every page works without it.
import { startCharts } from "./chart";
import { startExplore } from "./explore";
import { startExpressions, startSaving } from "./expressions";
import { startGraph } from "./graph";
import { startLive } from "./live";
import { startReplay } from "./replay";
import { startThemeSwitch } from "./switch";
import { startTimes } from "./times";

startThemeSwitch();
startCharts();
startExplore();
startGraph();
startExpressions();
startSaving();
startReplay();
startLive();
startTimes();
