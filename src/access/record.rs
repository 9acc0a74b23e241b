//! The audit log: who changed what, when, from where, and whether it was done.
//!
//! In: a change and its answer's status. Out: one line of the structured log, target `audit`. Invariant: it holds what the
//! route and the proof say, no bodies, no query strings and no headers, so no secret.

use http::Method;

use super::actions::Action;
use super::caller::Caller;

/// One change, done or refused.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who asked.
    pub caller: &'a Caller,
    /// For what.
    pub action: &'a Action,
    /// The method of the request.
    pub method: &'a Method,
    /// Its path, which names the object.
    pub path: &'a str,
    /// What became of it: the path of what was made, or the reason of a refusal.
    pub note: &'a str,
    /// The status of the answer.
    pub status: u16,
}

impl Record<'_> {
    /// `done`, `refused` (what was asked may not or cannot be done) or `failed`.
    pub fn outcome(&self) -> &'static str {
        match self.status {
            ..400 => "done",
            400..500 => "refused",
            _ => "failed",
        }
    }

    /// Writes the line.
    pub fn write(&self) {
        let Self { caller, action, method, path, note, status } = *self;
        let address = caller.address.map(|address| address.to_string()).unwrap_or_default();
        let (user, proof, role) = (&*caller.name, caller.proof.as_str(), caller.role.as_str());
        let (what, outcome) = (action.what, self.outcome());
        tracing::info!(
            target: "audit",
            user, proof, role, address, action = what, %method, path, note, status, outcome,
            "audit: {caller} asked to {what}: {outcome}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::action;
    use super::*;

    #[test]
    fn a_status_says_what_became_of_a_change() {
        let caller = Caller::default();
        let of = |status: u16| {
            let method = &Method::POST;
            let action = action(method, "/-/reload");
            Record { caller: &caller, action, method, path: "/-/reload", note: "", status }.outcome()
        };
        let outcomes = [200, 303, 403, 404, 422, 500, 503].map(of);
        assert_eq!(outcomes, ["done", "done", "refused", "refused", "refused", "failed", "failed"]);
    }
}
