//! The job: which row is there, what is asked, in which environment, and what a right answer is.

use std::{collections::BTreeSet, fs, path::Path};

use hyper::body::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    Fallible, World,
    dynamo::Table,
    life::Candidate,
    sigv4::{KEY_ID, SECRET, is_presigned},
};

/// What the template's resources are called here.
const TABLE: &str = "binplz-Table-1V5ZXQ3P4M7B";
const BUCKET: &str = "binplz-bucket-1g9yyr5rnk8tl";
/// As long as the ones that Lambda gives.
const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjE/////////w+";

/// What all candidates do.
pub struct Job {
    item: Value,
    served: Value,
    event: Bytes,
    /// What the template tells the function: names and values.
    variables: Vec<(String, String)>,
}

impl Job {
    /// From the repository's golden row, its event, and its template.
    pub fn read(root: &Path) -> Fallible<Job> {
        let file = |path: &str| fs::read_to_string(root.join(path)).map_err(|error| format!("{path}: {error}"));
        let item: Value = serde_json::from_str(&file("functions/aws/tests/golden/served-program.json")?)?;
        let served: Value = serde_json::from_str(item["body"]["S"].as_str().ok_or("the golden row has no body")?)?;
        let event = asking(&served, &file("functions/aws/tests/events/http-api.json")?)?;
        let variables = variables(&served);
        let told: BTreeSet<_> = told_by_template(&file("template.yaml")?);
        if told != variables.iter().map(|(name, _)| name.clone()).collect() {
            return Err(format!("the template tells the function {told:?}: job.rs has others").into());
        }
        Ok(Job { item, served, event, variables })
    }

    /// The table with the row.
    pub fn table(&self) -> Table {
        Table { name: TABLE.to_owned(), pk: text(&self.item["pk"]["S"]), item: self.item.clone() }
    }

    /// What is asked: the path that the row is served under.
    pub fn event(&self) -> Bytes {
        self.event.clone()
    }

    /// A function's environment: Lambda's, the template's, and where the services are played.
    pub fn environment(&self, world: &World, candidate: &Candidate) -> Vec<(String, String)> {
        let dynamo = &world.dynamo;
        let path = |path: &Path| path.display().to_string();
        let own = [
            ("AWS_LAMBDA_RUNTIME_API", world.runtime.address.to_string()),
            ("LAMBDA_TASK_ROOT", path(&candidate.root)),
            ("AWS_ENDPOINT_URL", dynamo.endpoint.clone()),
            // One file for each client's habits. Node has the machine's authorities inside.
            ("SSL_CERT_FILE", path(&dynamo.authorities)),
            ("AWS_CA_BUNDLE", path(&dynamo.authorities)),
            ("NODE_EXTRA_CA_CERTS", path(&dynamo.authority)),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN.repeat(36)),
        ];
        let of_lambda = [
            ("AWS_LAMBDA_FUNCTION_NAME", "binplz-api"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/binplz/binplz/api"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/22/[$LATEST]abcdef0123456789abcdef0123456789"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("_HANDLER", "bootstrap"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("LANG", "en_US.UTF-8"),
            ("TZ", ":UTC"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value)).into_iter();
        let of_lambda = of_lambda.map(|(name, value)| (name.to_owned(), value.to_owned()));
        own.chain(of_lambda).chain(self.variables.iter().cloned()).collect()
    }

    /// Whether an answer sends a client to the row's object, and says what it will get.
    pub fn check(&self, answer: &[u8], endpoint: &str) -> Fallible<()> {
        let answer: Value = serde_json::from_slice(answer)?;
        let header = |name: &str| {
            let headers = answer["headers"].as_object().into_iter().flatten();
            headers.filter(|(other, _)| other.eq_ignore_ascii_case(name)).filter_map(|(_, value)| value.as_str()).next()
        };
        let location = header("location").unwrap_or("");
        let object = text(&self.served["object"]).replace('[', "%5B");
        let (there, signature) = location.split_once('?').unwrap_or((location, ""));
        let signed: BTreeSet<_> = signature.split('&').filter_map(|part| part.split('=').next()).collect();
        let right = answer["statusCode"] == 302
            && there == format!("{endpoint}/{BUCKET}/{object}")
            && ["Algorithm", "Credential", "Date", "Expires", "Security-Token", "Signature", "SignedHeaders"]
                .iter()
                .all(|name| signed.contains(format!("X-Amz-{name}").as_str()))
            && is_presigned(location)
            && header("cache-control") == Some("no-store")
            && header("x-binplz-sha256") == self.served["sha256"].as_str();
        if right { Ok(()) } else { Err(format!("this is no right answer: {answer}").into()) }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An HTTP API's event, with the path that the row is served under. As it is on the wire: without line breaks.
fn asking(served: &Value, event: &str) -> Fallible<Bytes> {
    let mut event: Value = serde_json::from_str(event)?;
    let asked = text(&served["asked"]);
    let path = percent_decode_str(asked.split('?').next().unwrap_or_default()).decode_utf8()?;
    let path = Value::from(format!("/{path}"));
    event["requestContext"]["http"]["path"].clone_from(&path);
    event["rawPath"] = path;
    event["rawQueryString"] = Value::from("");
    event.as_object_mut().ok_or("the event is no object")?.remove("queryStringParameters");
    Ok(event.to_string().into())
}

/// A deployment that serves the row's commit under the row's pin.
fn variables(served: &Value) -> Vec<(String, String)> {
    let nixpkgs = json!({ "stored": { "nar_hash": "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" } });
    let pins = json!({
        "default": served["pin"],
        "pins": { text(&served["pin"]): { "rev": served["rev"], "nixpkgs": nixpkgs } },
    });
    let asked = text(&served["asked"]);
    let system = asked.split_once("?sys=").map_or("", |(_, system)| system);
    [
        ("BINPLZ_TABLE", TABLE),
        ("BINPLZ_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/binplz-Queue-1V5ZXQ3P4M7B"),
        ("BINPLZ_BUCKET", BUCKET),
        ("BINPLZ_FIRST_PINS", &pins.to_string()),
        ("BINPLZ_SYSTEM", system),
        ("BINPLZ_NAMES", "known"),
        ("BINPLZ_ORIGIN", "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com"),
        ("BINPLZ_CDN", ""),
        ("BINPLZ_ORIGIN_SECRET", ""),
        ("BINPLZ_SLOTS", "4"),
        ("BINPLZ_BUDGET_DOLLARS", "20"),
        ("BINPLZ_CLIENT_BUILDS", "50"),
        ("BINPLZ_STORE_GIGABYTES", "100"),
        ("BINPLZ_EGRESS_GIGABYTES", "0"),
        ("BINPLZ_BUNDLE_BYTES", "500000000"),
        ("BINPLZ_SIZE", "4096/8192/50"),
        ("BINPLZ_PRICE_PERCENT", "100"),
        ("BINPLZ_BUILD_SECONDS", "7200"),
        ("BINPLZ_CONTINUED_ATTEMPTS", "6"),
        ("BINPLZ_PACKAGE_DOLLARS", "5"),
        ("BINPLZ_CACHE_BYTES", "4294967296"),
        ("BINPLZ_WAITERS", "5"),
        ("BINPLZ_SIGNING_KEYS", ""),
        ("BINPLZ_STACK", "binplz"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The names of what the template puts into the function's environment: what all functions get, and what this one does.
fn told_by_template(template: &str) -> BTreeSet<String> {
    let section = |begin: &str, end: &str| {
        let rest = template.split_once(begin).map_or("", |(_, rest)| rest);
        rest.split_once(end).map_or(rest, |(section, _)| section)
    };
    let sections = [section("\nGlobals:\n", "\nResources:\n"), section("\n  ApiFunction:\n", "\n  LeaseFunction:\n")];
    let names = sections.iter().flat_map(|section| section.lines()).filter_map(|line| line.trim().split_once(": "));
    names.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("BINPLZ_")).collect()
}
