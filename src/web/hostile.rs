//! Texts that a mesh may hold and a page must survive, for the tests of the pages.
#![allow(clippy::unwrap_used, reason = "tests")]

/// Markup, quotes, direction overrides, line breaks, pictures, and four kilobytes.
pub(super) fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(1)>",
        "{{ 7 * 7 }}",
        "</textarea></title><b>",
        "\u{202e}gnp.exe\u{2066}",
        "line\r\nbreak\ttab\0nul",
        "🦀👩‍👩‍👧",
        "a&lt;b&amp;c",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(4096));
    texts
}

/// Asserts that a page is whole and that none of the texts became markup in it.
pub(super) fn assert_harmless(page: &str) {
    for markup in ["<script>alert", "<img", "<b>", "</textarea></title>", " 49 ", "NaN", "inf%"] {
        assert!(!page.contains(markup), "{markup} is in the page");
    }
    assert!(!page.contains(" style="), "an inline style, which the policy forbids");
    assert!(page.trim_end().ends_with("</html>"));
}
