// Holds dashboards against the schema that is made of Grafana's published types: `node check.mjs schema.json FILE…`.
// Prints what is wrong, one line each, and ends with 1 when anything is.
import fs from 'node:fs';
import Ajv from 'ajv';

// What Grafana still has, with the type of its options. `graph`, `singlestat` and `table-old` were removed.
const OPTIONS = {
  timeseries: 'TimeseriesOptions',
  stat: 'StatOptions',
  table: 'TableOptions',
  heatmap: 'HeatmapOptions',
  bargauge: 'BargaugeOptions',
  nodeGraph: 'NodeGraphOptions',
  'state-timeline': 'StateTimelineOptions',
};

const [schema, ...files] = process.argv.slice(2);
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema(JSON.parse(fs.readFileSync(schema, 'utf8')), 'grafana');
let wrong = 0;

function tell(file, place, problem) {
  wrong += 1;
  console.log(`${file}: ${place}: ${problem}`);
}

function hold(file, place, definition, value) {
  const validate = ajv.getSchema(`grafana#/definitions/${definition}`);
  if (validate(value)) return;
  for (const error of validate.errors.slice(0, 10)) {
    tell(file, `${place}${error.instancePath}`, `${error.message} ${JSON.stringify(error.params)}`);
  }
}

for (const file of files) {
  const board = JSON.parse(fs.readFileSync(file, 'utf8'));
  hold(file, 'board', 'Board', board);
  for (const panel of board.panels ?? []) {
    const definition = OPTIONS[panel.type];
    if (!definition) {
      tell(file, panel.title, `no panel type ${panel.type}`);
      continue;
    }
    hold(file, `${panel.title} options`, definition, panel.options);
    for (const target of panel.targets ?? []) {
      const kind = target.datasource?.type === 'postgres' ? 'SqlTarget' : 'PrometheusTarget';
      hold(file, `${panel.title} query ${target.refId}`, kind, target);
    }
    if (panel.type === 'timeseries') hold(file, `${panel.title} custom`, 'TimeseriesField', panel.fieldConfig.defaults.custom);
  }
}
console.log(`${files.length} boards, ${wrong} problems`);
process.exit(wrong === 0 ? 0 : 1);
