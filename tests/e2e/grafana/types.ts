// The types that Grafana publishes for dashboards and for the options of the panels we write; a JSON schema is made of them.
import type { DataQuery } from '@grafana/schema/dist/types/common/common.gen';
import type { AnnotationQuery, Dashboard, DataSourceRef } from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type { Options as TS, FieldConfig as TSF } from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type { Options as Stat } from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type { Options as Table } from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type { Options as Heat } from '@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen';
import type { Options as Bar } from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen';
import type { Options as Node } from '@grafana/schema/dist/types/raw/composable/nodegraph/panelcfg/x/types.gen';
import type { Options as State } from '@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';
// What Grafana's Prometheus data source reads of an annotation beside the common fields (versions 10 to 13).
export interface PrometheusAnnotation extends AnnotationQuery {
  expr: string;
  step?: string;
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
}
export interface Board extends Omit<Dashboard, 'annotations'> {
  annotations?: { list?: PrometheusAnnotation[] };
}
export interface TimeseriesOptions extends Partial<TS> {}
export interface TimeseriesField extends Partial<TSF> {}
export interface StatOptions extends Partial<Stat> {}
export interface TableOptions extends Partial<Table> {}
export interface HeatmapOptions extends Partial<Heat> {}
export interface BargaugeOptions extends Partial<Bar> {}
export interface NodeGraphOptions extends Partial<Node> {}
export interface StateTimelineOptions extends Partial<State> {}
// What the data sources of Prometheus and PostgreSQL read of a query beside the common fields; their own types are in plugins.
export interface PrometheusTarget extends DataQuery {
  datasource: DataSourceRef;
  expr: string;
  legendFormat?: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  exemplar?: boolean;
  editorMode?: 'code' | 'builder';
}
export interface SqlTarget extends DataQuery {
  datasource: DataSourceRef;
  rawSql: string;
  rawQuery: boolean;
  format: 'time_series' | 'table';
  editorMode?: 'code' | 'builder';
}
