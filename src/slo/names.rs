//! Names of the series and labels that objectives record.
//!
//! Where sloth has a name (github.com/slok/sloth, its metrics are documented in `docs/slo-metrics`), it is used, so that
//! its dashboards read ours; the others follow its form.

/// Events per second over five minutes.
pub(super) const TOTAL: &str = "slo:sli_total:rate5m";
/// Of these the bad ones.
pub(super) const ERRORS: &str = "slo:sli_errors:rate5m";
/// [`TOTAL`], once every five minutes: pieces that do not overlap, of which longer windows are made.
pub(super) const TOTAL_PIECE: &str = "slo:sli_total:piece5m";
/// [`ERRORS`], once every five minutes.
pub(super) const ERRORS_PIECE: &str = "slo:sli_errors:piece5m";
/// The share of bad events; the window follows.
pub(super) const RATIO: &str = "slo:sli_error:ratio_rate";
/// The share of good events that is aimed at.
pub(super) const OBJECTIVE: &str = "slo:objective:ratio";
/// The share of bad events that is allowed.
pub(super) const BUDGET: &str = "slo:error_budget:ratio";
/// The window in days.
pub(super) const DAYS: &str = "slo:time_period:days";
/// How many times faster than allowed bad events come, over five minutes.
pub(super) const CURRENT_BURN: &str = "slo:current_burn_rate:ratio";
/// The same over the whole window.
pub(super) const PERIOD_BURN: &str = "slo:period_burn_rate:ratio";
/// The share of the window of which there are measurements.
pub(super) const COVERED: &str = "slo:period_covered:ratio";
/// The share of the window's budget that is left.
pub(super) const REMAINING: &str = "slo:period_error_budget_remaining:ratio";
/// Always 1; what is configured, as labels.
pub(super) const INFO: &str = "sloth_slo_info";

/// Name and place: unique to one objective of one service.
pub(super) const ID_LABEL: &str = "sloth_id";
/// What the objective is about, `payments/cart`.
pub(super) const SERVICE_LABEL: &str = "sloth_service";
/// The objective's name.
pub(super) const SLO_LABEL: &str = "sloth_slo";
/// The window of a ratio.
pub(super) const WINDOW_LABEL: &str = "sloth_window";
/// `page` or `ticket`.
pub(super) const SEVERITY_LABEL: &str = "sloth_severity";
