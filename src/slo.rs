//! Turns objectives into burn-rate rules and error budgets.
