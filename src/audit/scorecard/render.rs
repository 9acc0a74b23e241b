//! A scorecard for people, for programs, and as Markdown.

use super::{Score, Scorecard};
use crate::audit::observed::words;

impl Scorecard {
    /// For people: the mesh with evidence, then a line for each namespace and item.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut place = None;
        for one in &self.scores {
            if place != Some(&one.namespace) {
                place = Some(&one.namespace);
                let title = one.namespace.as_deref().map_or("the mesh".to_owned(), |name| format!("namespace {name}"));
                text.push_str(&format!("{}{title}\n", if text.is_empty() { "" } else { "\n" }));
            }
            let score = one.score.map_or("  –".to_owned(), |score| format!("{score:>3}"));
            text.push_str(&format!("  {score}  {:<30} {}\n", one.item.title, one.evidence.join("; ")));
            if !one.next.is_empty() {
                text.push_str(&format!("       next: {}\n", one.next));
            }
        }
        text.push_str(&format!("\n{}\n", self.basis()));
        self.gaps.iter().for_each(|gap| text.push_str(&format!("not asked: {gap}\n")));
        text
    }

    /// As a document.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Scorecard\n");
        let mut place = None;
        for one in &self.scores {
            if place != Some(&one.namespace) {
                place = Some(&one.namespace);
                let title =
                    one.namespace.as_deref().map_or("Mesh".to_owned(), |name| format!("Namespace {}", cell(name)));
                text.push_str(&format!("\n## {title}\n\n| Score | Item | Evidence | Next |\n|---|---|---|---|\n"));
            }
            let score = one.score.map_or("–".to_owned(), |score| score.to_string());
            let evidence: Vec<String> = one.evidence.iter().map(|line| cell(line)).collect();
            text.push_str(&format!(
                "| {score} | {} | {} | {} |\n",
                one.item.title,
                evidence.join("<br>"),
                cell(&one.next)
            ));
        }
        text.push_str(&format!("\n{}\n", self.basis()));
        self.gaps.iter().for_each(|gap| text.push_str(&format!("\nNot asked: {}\n", cell(gap))));
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let score = |one: &Score| {
            serde_json::json!({
                "item": one.item.name, "title": one.item.title, "isPitfall": one.item.is_pitfall,
                "namespace": one.namespace, "score": one.score, "evidence": one.evidence, "next": one.next,
            })
        };
        let scores: Vec<_> = self.scores.iter().map(score).collect();
        serde_json::json!({
            "windowSeconds": self.window.map(|window| window.as_secs()), "scores": scores, "gaps": self.gaps,
        })
    }

    fn basis(&self) -> String {
        match self.window {
            Some(window) => format!("Traffic of {}.", words(window)),
            None => "Without traffic: only what is declared (--live URL asks a server).".to_owned(),
        }
    }
}

/// A text within a cell of a table: no line breaks, no marks that end the cell or open a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").split_whitespace().collect::<Vec<_>>().join(" ")
}
