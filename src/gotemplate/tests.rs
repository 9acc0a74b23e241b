//! Reference outputs of promtool for the data `instance=a job=j __name__=m`, value 0.5.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::Labels;

fn sample(labels: &[(&str, &str)], value: f64) -> Value {
    let labels = Labels::from_pairs(labels.iter().copied());
    let fields = vec![("Labels", Value::Labels(labels)), ("Value", Value::Float(value))];
    Value::Struct(Arc::new(Struct { type_name: "*template.sample", fields }))
}

fn run(text: &str) -> Result<String, String> {
    let template = Template::parse("test", text.to_owned(), &PROMETHEUS)?;
    let labels = Labels::from_pairs([("instance", "a"), ("job", "j"), ("__name__", "m")]);
    let data = Value::Struct(Arc::new(Struct {
        type_name: "struct { Labels map[string]string; Value interface {} }",
        fields: vec![("Labels", Value::Labels(labels)), ("Value", Value::Float(0.5))],
    }));
    let samples = [sample(&[("instance", "b"), ("__value__", "v")], 2.0), sample(&[("instance", "a")], 1_048_576.0)];
    let mut answers = BTreeMap::new();
    answers.insert("up".to_owned(), Ok(Value::List(samples.into())));
    answers.insert("none".to_owned(), Ok(Value::List([].into())));
    answers.insert("bad(".to_owned(), Err("1:5: parse error: unclosed left parenthesis".to_owned()));
    let at = Timestamp::from_millis(1_643_114_203_500);
    let context = Context { at, external_url: "https://mesh.example:7070/base", answers: &answers };
    template.run(&context, &data).map_err(|halt| match halt {
        Halt::Error(message) => message,
        Halt::QueryNeeded(query) => format!("query needed: {query}"),
    })
}

#[test]
fn prints_what_go_prints() {
    for (text, expect) in [
        ("plain", "plain"),
        ("{{ .Labels.missing }}|{{ .Labels.instance }}", "|a"),
        ("{{ .Labels }}", "map[__name__:m instance:a job:j]"),
        ("{{ .Value }}", "0.5"),
        ("{{ printf \"%d\" .Value }}", "%!d(float64=0.5)"),
        ("{{ printf \"%.2f\" .Value }}", "0.50"),
        ("{{ .Value | printf \"%.1f%%\" }}", "0.5%"),
        ("{{ index .Labels \"job\" }}{{ index .Labels \"x\" }}", "j"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ range $k, $v := .Labels }}{{ $k }}={{ $v }};{{ end }}", "__name__=m;instance=a;job=j;"),
        ("{{ (toTime 1643114203.5).Format \"2006-01-02 15:04:05.000\" }}", "2022-01-25 12:36:43.500"),
        ("{{ $t := toTime 0 }}{{ $t.Format \"Jan 2\" }} {{ \"Mon\" | $t.Format }} {{ $t.Unix }}", "Jan 1 Thu 0"),
        (
            "{{ with toTime 0 }}{{ .Format \"15:04\" }} {{ .UTC.Year }} {{ .Month }} {{ .Weekday }}{{ end }}",
            "00:00 1970 January Thursday",
        ),
        ("{{ range query \"none\" }}x{{ else }}empty{{ end }}", "empty"),
        ("{{ range query \"up\" }}{{ .Labels.instance }}:{{ .Value }} {{ end }}", "b:2 a:1.048576e+06 "),
        ("{{ range sortByLabel \"instance\" (query \"up\") }}{{ .Labels.instance }}{{ end }}", "ab"),
        ("{{ query \"up\" | first | value }}", "2"),
        ("{{ with query \"up\" }}{{ . | first | label \"instance\" }}{{ . | first | strvalue }}{{ end }}", "bv"),
        ("{{ (query \"up\" | first).Labels.instance }}", "b"),
        (
            "{{ define \"t\" }}[{{ .arg0 }} {{ .arg1 }} {{ .arg2 }}]{{ end }}{{ template \"t\" (args 1 \"b\") }}",
            "[1 b <no value>]",
        ),
        ("{{ range $i, $e := query \"up\" }}{{ if $i }}{{ break }}{{ end }}{{ $i }}{{ end }}", "0"),
        ("{{ len .Labels }} {{ len \"abc\" }}", "3 3"),
        ("{{ and 1 0 }} {{ or 0 \"x\" }} {{ not true }}", "0 x false"),
        ("{{ if and (gt .Value 0.1) (lt .Value 1.0) }}in{{ end }}", "in"),
        ("{{ if eq .Labels.job \"i\" \"j\" }}one{{ end }}", "one"),
        ("{{- /* gone */ -}} x {{- \"y\" }}", "xy"),
        ("{{ print 1 2 \"a\" 3 }}", "1 2a3"),
        ("{{ html \"<a>\" }}{{ urlquery \"a b\" }}", "&lt;a&gt;a+b"),
        ("{{ slice \"abcdef\" 1 3 }}", "bc"),
    ] {
        assert_eq!(run(text).as_deref(), Ok(expect), "{text}");
    }
}

#[test]
fn has_the_functions_of_prometheus() {
    for (text, expect) in [
        ("{{ humanize .Value }} {{ \"1500\" | humanize }} {{ humanize 12 }}", "500m 1.5k 12"),
        ("{{ humanize1024 1048576.0 }}", "1Mi"),
        ("{{ humanizePercentage 0.959 }}", "95.9%"),
        ("{{ humanizeDuration 90061.5 }}", "1d 1h 1m 1s"),
        ("{{ humanizeTimestamp 1643114203.0 }}", "2022-01-25 12:36:43 +0000 UTC"),
        ("{{ 1643114203.5 | toTime }}", "2022-01-25 12:36:43.5 +0000 UTC"),
        ("{{ graphLink \"up == 0\" }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=0"),
        ("{{ tableLink \"up == 0\" }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=1"),
        ("{{ stripDomain \"host.example.com:80\" }} {{ stripDomain \"10.0.0.1:80\" }}", "host:80 10.0.0.1:80"),
        ("{{ stripPort \"[::1]:6006\" }} {{ stripPort \"a:1\" }} {{ stripPort \"plain\" }}", "::1 a plain"),
        ("{{ stripPort \"[::1]::6006\" }}", "[::1]::6006"),
        ("{{ parseDuration \"2h10m15s\" }}", "7815"),
        ("{{ reReplaceAll \"(a)b\" \"${1}x\" \"abab\" }}", "axax"),
        ("{{ match \"a.*\" \"xab\" }} {{ match \"^b\" \"ab\" }}", "true false"),
        ("{{ title \"aa bB cc\" }} {{ toUpper \"x\" }} {{ toLower \"X\" }}", "Aa BB Cc X x"),
        ("{{ safeHtml \"<b>\" }}", "<b>"),
        ("{{ pathPrefix }} {{ externalURL }}", "/base https://mesh.example:7070/base"),
    ] {
        assert_eq!(run(text).as_deref(), Ok(expect), "{text}");
    }
}

#[test]
fn words_errors_as_go_does() {
    let at = |place: &str, text: &str| format!("template: test:{place}: executing \"test\" at <{text}");
    for (text, expect) in [
        (
            "{{ .Foo }}",
            at(
                "1:3",
                ".Foo>: can't evaluate field Foo in type struct { Labels map[string]string; Value interface {} }",
            ),
        ),
        ("a\nb {{ .Labels.a.b }}", at("2:12", ".Labels.a.b>: can't evaluate field b in type string")),
        ("{{ eq .Value 1 }}", at("1:3", "eq .Value 1>: error calling eq: incompatible types for comparison")),
        (
            "{{ query \"none\" | first }}",
            at("1:18", "first>: error calling first: first() called on vector with no elements"),
        ),
        (
            "{{ query \"bad(\" }}",
            at("1:3", "query \"bad(\">: error calling query: 1:5: parse error: unclosed left parenthesis"),
        ),
        (
            "{{ humanize \"x\" }}",
            at("1:3", "humanize \"x\">: error calling humanize: strconv.ParseFloat: parsing \"x\": invalid syntax"),
        ),
        (
            "{{ parseDuration \"1x\" }}",
            at("1:3", "parseDuration \"1x\">: error calling parseDuration: not a valid duration string: \"1x\""),
        ),
        ("{{ toUpper .Value }}", at("1:11", ".Value>: wrong type for value; expected string; got float64")),
        ("{{ toUpper }}", at("1:3", "toUpper>: wrong number of args for toUpper: want 1 got 0")),
        ("{{ nope }}", "template: test:1: function \"nope\" not defined".to_owned()),
        ("{{ $x }}", "template: test:1: undefined variable \"$x\"".to_owned()),
        ("{{ query \"other\" }}", "query needed: other".to_owned()),
    ] {
        assert_eq!(run(text), Err(expect), "{text}");
    }
    assert!(run("{{ if }}").unwrap_err().starts_with("template: test:1: "));
    assert!(run("{{ .x").unwrap_err().starts_with("template: test:1: "));
}

#[test]
fn ends_whatever_the_template_says() {
    let endless = "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}";
    assert!(run(endless).unwrap_err().ends_with("exceeded maximum template depth"));
    let long = "{{ range 1000000 }}aaaaaaaaaaaaaaaa{{ end }}";
    assert!(run(long).unwrap_err().contains("longer than"));
}
