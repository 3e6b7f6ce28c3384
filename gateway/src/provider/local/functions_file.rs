//! The functions file, which declares the functions of the local provider. Parses text into typed declarations; a
//! mistake names file, function and field.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use kit::handover::{ENV_FPROCESS, ENV_MODE, ENV_PORT, ENV_UPSTREAM_URL, MODE_HTTP};
use serde_json::{Map, Value};

use crate::function::About;
use crate::function::labels::{LABEL_SCALE_MAX, Labels};
use crate::function::name::{self, FunctionName};

/// The most functions in a file: each has a socket at least, and a process when it runs.
pub(crate) const MAX_FUNCTIONS: usize = 1000;

/// The most addresses of one function.
pub(crate) const MAX_ADDRESSES: usize = 1000;

const FIELD_NAME: &str = "name";
const FIELD_FPROCESS: &str = "fprocess";
pub(crate) const FIELD_DIRECTORY: &str = "directory";
const FIELD_ENVIRONMENT: &str = "environment";
const FIELD_REPLICAS: &str = "replicas";
pub(crate) const FIELD_ADDRESS: &str = "address";
const FIELD_LABELS: &str = "labels";

/// Settings of fwatchdog that the gateway sets: the command has a field of its own, and the child inherits the socket.
const OF_THE_GATEWAY: [&str; 2] = [ENV_FPROCESS, ENV_PORT];

/// The fields that only a function with `fprocess` may have.
const PROCESS_FIELDS: [&str; 3] = [FIELD_DIRECTORY, FIELD_ENVIRONMENT, FIELD_REPLICAS];

const EXPECTED_ADDRESS: &str = "HOST:PORT, such as 10.0.0.5:8080";

/// One function of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: FunctionName,
    pub(crate) serves: Serves,
    pub(crate) labels: Labels,
    pub(crate) about: Arc<About>,
}

/// Who runs a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// The gateway, as child processes.
    Process(Process),
    /// Another program, at these `HOST:PORT`s; at least one.
    Address(Vec<String>),
}

/// A function that the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// The command, for fwatchdog to split; not blank.
    pub(crate) fprocess: String,
    /// The working directory, relative to the gateway's; `None` for the gateway's own.
    pub(crate) directory: Option<PathBuf>,
    /// Variables for the process, sorted by name.
    pub(crate) environment: Vec<(String, String)>,
    /// From 0 to the label `scale.max`.
    pub(crate) replicas: u32,
}

/// A mistake in the file. `Display` is one line: file, function, field, expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    file: String,
    /// The function's name, or its number in the list if it has no valid name.
    function: Option<String>,
    field: Option<String>,
    problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(function) = &self.function {
            write!(f, "function {function}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "field `{field}`: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// A mistake in one field of `function`, found after the file was read (an address that does not
    /// resolve, a directory that is not there).
    pub(crate) fn in_field(file: &str, function: &FunctionName, field: &str, problem: String) -> Error {
        Error {
            file: file.to_owned(),
            function: Some(format!("`{function}`")),
            field: Some(field.to_owned()),
            problem,
        }
    }
}

/// A mistake without file and function.
struct Mistake {
    field: Option<String>,
    problem: String,
}

type Checked<T> = Result<T, Mistake>;

fn mistake<T>(field: &str, problem: impl Into<String>) -> Checked<T> {
    Err(Mistake { field: Some(field.to_owned()), problem: problem.into() })
}

/// Reads the text of the functions file; `file` is its name for messages.
///
/// # Errors
/// The first mistake.
pub(crate) fn parse(text: &str, file: &str) -> Result<Vec<Declared>, Error> {
    let wrong = |function: Option<String>, Mistake { field, problem }| Error {
        file: file.to_owned(),
        function,
        field,
        problem,
    };
    let document: Value = serde_json::from_str(text)
        .map_err(|error| wrong(None, Mistake { field: None, problem: format!("expected JSON: {error}") }))?;
    let entries = list_of_functions(&document).map_err(|mistake| wrong(None, mistake))?;
    let mut functions = Vec::with_capacity(entries.len());
    let (mut names, mut ports) = (HashSet::new(), HashMap::new());
    for (place, entry) in entries.iter().enumerate() {
        let declared = declared(entry).map_err(|mistake| wrong(Some(label(entry, place)), mistake))?;
        if !names.insert(declared.name.clone()) {
            let problem = "there is another function of this name".to_owned();
            return Err(wrong(
                Some(label(entry, place)),
                Mistake { field: Some(FIELD_NAME.to_owned()), problem },
            ));
        }
        let before =
            upstream_port(&declared.serves).and_then(|port| ports.insert(port, declared.name.clone()));
        if let Some(other) = before {
            let problem = format!(
                "`{other}` has this port already: with port 0 each process has one of its own, in PORT"
            );
            let field = Some(format!("{FIELD_ENVIRONMENT}.{ENV_UPSTREAM_URL}"));
            return Err(wrong(Some(label(entry, place)), Mistake { field, problem }));
        }
        functions.push(declared);
    }
    Ok(functions)
}

/// The function in messages: its name, or its number in the list.
fn label(entry: &Value, place: usize) -> String {
    match entry.get(FIELD_NAME).and_then(Value::as_str).and_then(|text| name::valid(text.as_bytes())) {
        Some(name) => format!("`{name}`"),
        None => format!("number {}", place + 1),
    }
}

fn list_of_functions(document: &Value) -> Checked<&Vec<Value>> {
    const FIELD: &str = "functions";
    let Some(object) = document.as_object() else {
        return Err(Mistake { field: None, problem: format!("expected an object with a list `{FIELD}`") });
    };
    only_known_fields(object, &[FIELD])?;
    let Some(entries) = object.get(FIELD).and_then(Value::as_array) else {
        return mistake(FIELD, "expected a list of functions");
    };
    if entries.len() > MAX_FUNCTIONS {
        return mistake(FIELD, format!("expected at most {MAX_FUNCTIONS} functions, got {}", entries.len()));
    }
    Ok(entries)
}

fn declared(entry: &Value) -> Checked<Declared> {
    let Some(object) = entry.as_object() else {
        return Err(Mistake { field: None, problem: "expected an object".to_owned() });
    };
    only_known_fields(
        object,
        &[
            FIELD_NAME,
            FIELD_FPROCESS,
            FIELD_DIRECTORY,
            FIELD_ENVIRONMENT,
            FIELD_REPLICAS,
            FIELD_ADDRESS,
            FIELD_LABELS,
        ],
    )?;
    let name = text(object, FIELD_NAME)?.and_then(|text| FunctionName::parse(text.as_bytes()));
    let Some(name) = name else {
        return mistake(FIELD_NAME, format!("expected {}", name::EXPECTED_NAME));
    };
    let labels = labels(object)?;
    let serves = match (object.get(FIELD_FPROCESS), object.get(FIELD_ADDRESS)) {
        (Some(_), None) => Serves::Process(process(object, &labels)?),
        (None, Some(address)) => Serves::Address(addresses(object, address)?),
        (Some(_), Some(_)) => {
            return mistake(FIELD_ADDRESS, "cannot stand beside `fprocess`: expected one of the two");
        }
        (None, None) => return mistake(FIELD_FPROCESS, "is missing: expected `fprocess` or `address`"),
    };
    let labels = match upstream_port(&serves) {
        Some(port) => one_replica(&serves, labels, port)?,
        None => labels,
    };
    let about = About {
        image: String::new(),
        process: text(object, FIELD_FPROCESS)?.unwrap_or_default().to_owned(),
        labels: owned(strings(object, FIELD_LABELS)?).collect(),
    };
    Ok(Declared { name, serves, labels, about: Arc::new(about) })
}

fn only_known_fields(object: &Map<String, Value>, known: &[&str]) -> Checked<()> {
    match object.keys().find(|field| !known.contains(&field.as_str())) {
        Some(field) => {
            mistake(&field.escape_debug().to_string(), format!("is unknown: expected {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

/// The string in `field`, `None` when the field is not there.
fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Checked<Option<&'a str>> {
    match object.get(field) {
        None => Ok(None),
        Some(Value::String(text)) if text.contains('\0') => mistake(field, "expected text without NUL"),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => mistake(field, "expected a string"),
    }
}

/// The strings of an object, sorted by key; `field.KEY` is named when one is not a string.
fn strings<'a>(object: &'a Map<String, Value>, field: &str) -> Checked<Vec<(&'a str, &'a str)>> {
    let entries = match object.get(field) {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return mistake(field, "expected an object of strings"),
    };
    let mut pairs = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let path = || format!("{field}.{}", key.escape_debug());
        match value.as_str() {
            Some(text) if !text.contains('\0') => pairs.push((key.as_str(), text)),
            Some(_) => return mistake(&path(), "expected text without NUL"),
            None => return mistake(&path(), "expected a string"),
        }
    }
    pairs.sort_unstable();
    Ok(pairs)
}

fn owned(pairs: Vec<(&str, &str)>) -> impl Iterator<Item = (String, String)> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// A label that would cause a warning on a service is a mistake here: the file is written for the gateway.
fn labels(object: &Map<String, Value>) -> Checked<Labels> {
    let (labels, warnings) = Labels::from_map(strings(object, FIELD_LABELS)?);
    match warnings.into_iter().next() {
        Some(warning) => mistake(&format!("{FIELD_LABELS}.{}", warning.label), warning.problem),
        None => Ok(labels),
    }
}

fn process(object: &Map<String, Value>, labels: &Labels) -> Checked<Process> {
    let fprocess = text(object, FIELD_FPROCESS)?.unwrap_or_default();
    if fprocess.trim().is_empty() {
        return mistake(FIELD_FPROCESS, "expected a command");
    }
    let directory = text(object, FIELD_DIRECTORY)?;
    if directory.is_some_and(str::is_empty) {
        return mistake(FIELD_DIRECTORY, "expected a directory");
    }
    let environment = strings(object, FIELD_ENVIRONMENT)?;
    if let Some((key, _)) = environment.iter().find(|(key, _)| key.is_empty() || key.contains(['=', '\0'])) {
        let path = format!("{FIELD_ENVIRONMENT}.{}", key.escape_debug());
        return mistake(&path, "expected a variable's name without `=` and NUL");
    }
    if let Some((key, _)) = environment.iter().find(|(key, _)| OF_THE_GATEWAY.contains(key)) {
        return mistake(&format!("{FIELD_ENVIRONMENT}.{key}"), "is set by the gateway");
    }
    Ok(Process {
        fprocess: fprocess.to_owned(),
        directory: directory.map(PathBuf::from),
        environment: owned(environment).collect(),
        replicas: replicas(object, labels)?,
    })
}

/// The fixed port of a replica's process with `mode=http`, if it has one. fwatchdog refuses a URL that cannot be
/// parsed.
fn upstream_port(serves: &Serves) -> Option<u16> {
    let Serves::Process(process) = serves else { return None };
    let value =
        |name: &str| process.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let url = value(ENV_UPSTREAM_URL).filter(|_| value(ENV_MODE) == Some(MODE_HTTP))?;
    let (_, port) = url.strip_suffix('/').unwrap_or(url).rsplit_once(':')?;
    port.parse().ok().filter(|port| *port > 0)
}

/// Limits the function to one replica, since only one process can listen on `port`. More replicas are a mistake.
fn one_replica(serves: &Serves, labels: Labels, port: u16) -> Checked<Labels> {
    let is_one = matches!(serves, Serves::Process(process) if process.replicas <= 1);
    if is_one && labels.scale_min.unwrap_or(1) == 1 && labels.scale_max.unwrap_or(1) == 1 {
        return Ok(Labels { scale_max: Some(1), ..labels });
    }
    mistake(
        &format!("{FIELD_ENVIRONMENT}.{ENV_UPSTREAM_URL}"),
        format!(
            "several replicas cannot share port {port}: with port 0 each has one of its own, in PORT; \
             else `{FIELD_REPLICAS}` and label {LABEL_SCALE_MAX} are at most 1"
        ),
    )
}

fn replicas(object: &Map<String, Value>, labels: &Labels) -> Checked<u32> {
    let Some(value) = object.get(FIELD_REPLICAS) else {
        return Ok(labels.scale_min.unwrap_or(1));
    };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    match number.filter(|number| *number <= labels.max()) {
        Some(number) => Ok(number),
        None => mistake(
            FIELD_REPLICAS,
            format!(
                "expected an integer from 0 to {} (label com.openfaas.scale.max), got `{value}`",
                labels.max()
            ),
        ),
    }
}

fn addresses(object: &Map<String, Value>, address: &Value) -> Checked<Vec<String>> {
    if let Some(field) = PROCESS_FIELDS.into_iter().find(|field| object.contains_key(*field)) {
        return mistake(
            field,
            "is for functions with `fprocess`: the gateway does not run functions with `address`",
        );
    }
    let entries = match address {
        Value::Array(entries) if !entries.is_empty() && entries.len() <= MAX_ADDRESSES => entries.as_slice(),
        Value::Array(_) => return mistake(FIELD_ADDRESS, format!("expected 1 to {MAX_ADDRESSES} addresses")),
        single => std::slice::from_ref(single),
    };
    let mut addresses: Vec<String> = Vec::with_capacity(entries.len());
    for entry in entries {
        match entry.as_str() {
            Some(text) if is_address(text) && addresses.iter().any(|other| other == text) => {
                return mistake(FIELD_ADDRESS, format!("`{text}` is there twice"));
            }
            Some(text) if is_address(text) => addresses.push(text.to_owned()),
            _ => {
                return mistake(FIELD_ADDRESS, format!("expected {EXPECTED_ADDRESS}, got `{entry}`"));
            }
        }
    }
    Ok(addresses)
}

/// Whether the text is `HOST:PORT`, where an IPv6 host stands in brackets; the host need not exist.
fn is_address(text: &str) -> bool {
    if text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return true;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_host = !host.is_empty()
        && host.len() <= 253 // RFC 1035, 2.3.4, without the closing dot
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    is_host && is_port
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "functions.json";

    /// One function with the given fields beside its name.
    fn one(fields: &str) -> Result<Declared, String> {
        let text = format!(r#"{{"functions": [{{"name": "echo", {fields}}}]}}"#);
        match parse(&text, FILE) {
            Ok(mut functions) => Ok(functions.remove(0)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn check_error(text: &str, want: &str) {
        let got = parse(text, FILE).map_err(|error| error.to_string());
        assert_eq!(got.expect_err(text), format!("functions.json: {want}"), "{text}");
    }

    #[test]
    fn the_documented_example() {
        let text = r#"{"functions": [
            {"name": "catservice", "fprocess": "cat"},
            {"name": "nodeinfo", "fprocess": "node handler.js", "directory": "sample-functions/nodeinfo",
             "environment": {"write_debug": "true", "a": ""}, "replicas": 2,
             "labels": {"com.openfaas.scale.max": "4"}},
            {"name": "elsewhere", "address": ["10.0.0.5:8080", "10.0.0.6:8080"]}
        ]}"#;
        let functions = parse(text, FILE).unwrap();
        let names: Vec<_> = functions.iter().map(|function| function.name.as_str()).collect();
        assert_eq!(names, ["catservice", "nodeinfo", "elsewhere"]);
        let cat = Process { fprocess: "cat".into(), directory: None, environment: vec![], replicas: 1 };
        assert_eq!(functions[0].serves, Serves::Process(cat));
        assert_eq!(functions[0].labels, Labels::default());
        let node = Process {
            fprocess: "node handler.js".into(),
            directory: Some("sample-functions/nodeinfo".into()),
            environment: vec![("a".into(), String::new()), ("write_debug".into(), "true".into())],
            replicas: 2,
        };
        assert_eq!(functions[1].serves, Serves::Process(node));
        assert_eq!(functions[1].labels, Labels { scale_max: Some(4), ..Labels::default() });
        let addresses = vec!["10.0.0.5:8080".to_owned(), "10.0.0.6:8080".to_owned()];
        assert_eq!(functions[2].serves, Serves::Address(addresses));
        assert_eq!(parse(r#"{"functions": []}"#, FILE), Ok(vec![]));
    }

    #[test]
    fn a_broken_document_is_located() {
        check_error("functions: []", "expected JSON: expected ident at line 1 column 2");
        check_error("", "expected JSON: EOF while parsing a value at line 1 column 0");
        check_error(
            "{\"functions\": [\n  {\"name\" \"x\"}]}",
            "expected JSON: expected `:` at line 2 column 11",
        );
        check_error("[]", "expected an object with a list `functions`");
        check_error("{}", "field `functions`: expected a list of functions");
        check_error(r#"{"functions": {}}"#, "field `functions`: expected a list of functions");
        check_error(r#"{"function": []}"#, "field `function`: is unknown: expected functions");
        check_error(r#"{"functions": [1]}"#, "function number 1: expected an object");
    }

    #[test]
    fn names_are_needed_valid_and_unique() {
        let expected = format!("field `name`: expected {}", name::EXPECTED_NAME);
        for entry in [
            r#"{"fprocess": "cat"}"#,
            r#"{"name": "", "fprocess": "cat"}"#,
            r#"{"name": "a b", "fprocess": "cat"}"#,
        ] {
            check_error(&format!(r#"{{"functions": [{entry}]}}"#), &format!("function number 1: {expected}"));
        }
        let text = r#"{"functions": [{"name": "a", "fprocess": "cat"}, {"name": 5, "fprocess": "cat"}]}"#;
        check_error(text, "function number 2: field `name`: expected a string");
        let text = r#"{"functions": [{"name": "a", "fprocess": "cat"}, {"name": "a", "address": "h:1"}]}"#;
        check_error(text, "function `a`: field `name`: there is another function of this name");
    }

    #[test]
    fn one_port_is_for_one_replica() {
        let url = |port: u16| {
            format!(r#""environment": {{"mode": "http", "upstream_url": "http://localhost:{port}/"}}"#)
        };
        let of = |port: u16, more: &str| one(&format!(r#""fprocess": "serve", {}{more}"#, url(port)));
        let max = |port: u16, more: &str| of(port, more).map(|declared| declared.labels.max());
        assert_eq!(max(3000, ""), Ok(1));
        assert_eq!(max(3000, r#", "replicas": 0, "labels": {"com.openfaas.scale.max": "1"}"#), Ok(1));
        assert_eq!(max(0, r#", "replicas": 4"#), Ok(20));
        for more in [
            r#", "replicas": 2"#,
            r#", "labels": {"com.openfaas.scale.max": "2"}"#,
            r#", "labels": {"com.openfaas.scale.min": "2"}"#,
        ] {
            let error = max(3000, more).unwrap_err();
            let want = "functions.json: function `echo`: field `environment.upstream_url`: several replicas cannot \
                        share port 3000: with port 0 each has one of its own, in PORT; else `replicas` and label \
                        com.openfaas.scale.max are at most 1";
            assert_eq!(error, want, "{more}");
        }
        let entry = |name: &str| format!(r#"{{"name": "{name}", "fprocess": "serve", {}}}"#, url(3000));
        check_error(
            &format!(r#"{{"functions": [{}, {}]}}"#, entry("a"), entry("b")),
            "function `b`: field `environment.upstream_url`: `a` has this port already: with port 0 each process has \
             one of its own, in PORT",
        );
    }

    #[test]
    fn a_mistake_names_function_and_field() {
        let cases = [
            (r#""fprocess": """#, "field `fprocess`: expected a command"),
            (r#""fprocess": "  ""#, "field `fprocess`: expected a command"),
            (r#""fprocess": ["cat"]"#, "field `fprocess`: expected a string"),
            (r#""fprocess": "a\u0000b""#, "field `fprocess`: expected text without NUL"),
            (r#""replicas": 1"#, "field `fprocess`: is missing: expected `fprocess` or `address`"),
            (
                r#""fprocess": "cat", "address": "h:1""#,
                "field `address`: cannot stand beside `fprocess`: expected one of the two",
            ),
            (
                r#""fprocess": "cat", "envProcess": "x""#,
                "field `envProcess`: is unknown: expected name, fprocess, directory, environment, replicas, \
                 address, labels",
            ),
            (r#""fprocess": "cat", "directory": 1"#, "field `directory`: expected a string"),
            (r#""fprocess": "cat", "directory": """#, "field `directory`: expected a directory"),
            (
                r#""fprocess": "cat", "environment": ["a=b"]"#,
                "field `environment`: expected an object of strings",
            ),
            (r#""fprocess": "cat", "environment": {"A": 1}"#, "field `environment.A`: expected a string"),
            (
                r#""fprocess": "cat", "environment": {"A=B": "1"}"#,
                "field `environment.A=B`: expected a variable's name without `=` and NUL",
            ),
            (
                r#""fprocess": "cat", "environment": {"": "1"}"#,
                "field `environment.`: expected a variable's name without `=` and NUL",
            ),
            (r#""fprocess": "cat", "labels": {"a": true}"#, "field `labels.a`: expected a string"),
            (
                r#""fprocess": "cat", "labels": {"faas.port": "x"}"#,
                "field `labels.faas.port`: expected an integer from 1 to 65535, got `x`",
            ),
        ];
        for (fields, want) in cases {
            assert_eq!(one(fields), Err(format!("functions.json: function `echo`: {want}")), "{fields}");
        }
    }

    #[test]
    fn replicas_go_from_none_to_the_maximum() {
        let replicas = |fields: &str| match one(&format!(r#""fprocess": "cat", {fields}"#)) {
            Ok(Declared { serves: Serves::Process(process), .. }) => Ok(process.replicas),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(replicas(r#""replicas": 0"#), Ok(0));
        assert_eq!(replicas(r#""replicas": 20"#), Ok(20));
        assert_eq!(replicas(r#""labels": {"com.openfaas.scale.min": "3"}"#), Ok(3));
        for bad in ["21", "-1", "1.5", "\"2\"", "null", "4294967297"] {
            let want = format!(
                "functions.json: function `echo`: field `replicas`: expected an integer from 0 to 20 \
                 (label com.openfaas.scale.max), got `{bad}`"
            );
            assert_eq!(replicas(&format!(r#""replicas": {bad}"#)), Err(want));
        }
    }

    #[test]
    fn addresses_are_one_or_a_list() {
        let addresses = |value: &str| match one(&format!(r#""address": {value}"#)) {
            Ok(Declared { serves: Serves::Address(addresses), .. }) => Ok(addresses),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        for good in ["10.0.0.5:8080", "[::1]:80", "localhost:1", "my_host.example-1.org:65535"] {
            assert_eq!(addresses(&format!("\"{good}\"")), Ok(vec![good.to_owned()]));
            assert_eq!(addresses(&format!("[\"{good}\"]")), Ok(vec![good.to_owned()]));
        }
        let prefix = "functions.json: function `echo`: field `address`";
        for bad in [
            "\"\"",
            "\"host\"",
            "\":80\"",
            "\"h:0\"",
            "\"10.0.0.5:0\"",
            "\"h:65536\"",
            "\"h:+1\"",
            "\"h:\"",
            "\"http://h:80\"",
            "\"a b:80\"",
            "\"::1:80\"",
            "5",
            "null",
            "{}",
        ] {
            let want = format!("{prefix}: expected {EXPECTED_ADDRESS}, got `{bad}`");
            assert_eq!(addresses(bad), Err(want));
        }
        assert_eq!(addresses("[]"), Err(format!("{prefix}: expected 1 to 1000 addresses")));
        assert_eq!(addresses(r#"["h:1", "h:1"]"#), Err(format!("{prefix}: `h:1` is there twice")));
    }

    #[test]
    fn process_fields_are_refused_beside_an_address() {
        for (field, value) in [("replicas", "1"), ("directory", "\"x\""), ("environment", "{}")] {
            let got = one(&format!(r#""address": "h:1", "{field}": {value}"#));
            let want = format!(
                "functions.json: function `echo`: field `{field}`: is for functions with `fprocess`: \
                 the gateway does not run functions with `address`"
            );
            assert_eq!(got, Err(want));
        }
    }

    #[test]
    fn the_numbers_of_functions_and_addresses_have_limits() {
        let functions = |count: usize| {
            let entries: Vec<_> =
                (0..count).map(|n| format!(r#"{{"name": "f{n}", "fprocess": "cat"}}"#)).collect();
            parse(&format!(r#"{{"functions": [{}]}}"#, entries.join(",")), FILE)
        };
        assert_eq!(functions(MAX_FUNCTIONS).unwrap().len(), MAX_FUNCTIONS);
        let error = functions(MAX_FUNCTIONS + 1).unwrap_err().to_string();
        assert_eq!(error, "functions.json: field `functions`: expected at most 1000 functions, got 1001");
        let addresses = |count: usize| {
            let entries: Vec<_> = (0..count).map(|n| format!("\"h{n}:80\"")).collect();
            one(&format!(r#""address": [{}]"#, entries.join(",")))
        };
        assert!(addresses(MAX_ADDRESSES).is_ok());
        assert!(addresses(MAX_ADDRESSES + 1).is_err());
    }
}
