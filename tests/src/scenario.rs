//! A test's scenario on the bed: what was asked of AWS, and what AWS is to do wrong. `tests/bed/scenario.py` says what may be told.

use std::{io, time::Instant};

use serde_json::{Value, json};

use crate::{
    http::{self, Answer},
    site::PATIENCE,
};

/// The scenario of one deployment. Dropped, it lets go of what it holds.
pub struct Scenario {
    address: String,
    name: String,
}

/// A request: to AWS by a function, a test or the follower of a presigned URL; or to a function by AWS.
#[derive(Clone, Debug)]
pub struct Request {
    /// `dynamodb`, `sqs`, `ecs`, `s3`, `lambda`, `events`.
    pub service: String,
    /// `GetItem`, `RunTask`, … (for what comes from AWS: `Invoke`, `Next`, `ECS Task State Change`).
    pub operation: String,
    /// Its body.
    pub parameters: Value,
    /// The function that signed it, as the template calls it: `Api`, `Lease`, `Dispatcher`, `Reaper`, `Collector`, `Promoter`.
    pub function: Option<String>,
    /// That function's process.
    pub pid: Option<u64>,
    /// It was signed in its URL, by another caller.
    pub presigned: bool,
    /// What went wrong with it.
    pub fault: Option<String>,
    /// The status of its answer.
    pub status: Option<u64>,
}

impl Request {
    fn read(value: &Value) -> Request {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Request {
            service: text("service").expect("a service"),
            operation: text("operation").expect("an operation"),
            parameters: value["parameters"].clone(),
            function: text("function"),
            pid: value["pid"].as_u64(),
            presigned: value["presigned"] == true,
            fault: text("fault"),
            status: value["status"].as_u64(),
        }
    }

    /// `Api dynamodb:GetItem`; `dynamodb:GetItem` of a caller that is not a function.
    pub fn what(&self) -> String {
        let who = self.function.iter().filter(|_| !self.presigned).map(|function| format!("{function} "));
        format!("{}{}:{}", who.collect::<String>(), self.service, self.operation)
    }
}

/// A fault that was asked for.
pub struct Fault<'s> {
    scenario: &'s Scenario,
    path: String,
}

impl Fault<'_> {
    /// Waits until it has happened; the request at which it did.
    pub fn happened(&self) -> Request {
        let started = Instant::now();
        loop {
            match self.scenario.send("GET", &self.path, &Value::Null) {
                Ok(answer) => return Request::read(&answer.json()),
                // The bed waits longer than this client does for one answer.
                Err(error) => assert!(started.elapsed() < PATIENCE, "{} did not happen: {error}", self.path),
            }
        }
    }

    /// Lets go what it holds.
    pub fn release(&self) {
        self.scenario.tell("POST", &format!("{}/release", self.path), &Value::Null);
    }
}

/// A session of a role.
pub struct Session {
    /// The role's ARN.
    pub role: String,
    /// Its credentials, by the names of their environment variables.
    pub credentials: Value,
}

impl Scenario {
    /// The scenario of the deployment whose resources' names begin with `name`, on the bed at `endpoint`. It begins anew.
    pub fn begin(endpoint: &str, name: &str) -> Scenario {
        let address = endpoint.strip_prefix("http://").expect("a bed without TLS").to_owned();
        let scenario = Scenario { address, name: name.to_owned() };
        scenario.forget();
        scenario
    }

    /// Forgets the log, the faults and the settings, and lets go of what is held.
    pub fn forget(&self) {
        self.tell("DELETE", "", &Value::Null);
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
        let target = format!("/_bed/{}{path}", self.name);
        http::send(None, &self.address, method, target.as_bytes(), &[], body.to_string().as_bytes())
    }

    fn tell(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, body).unwrap_or_else(|error| panic!("the bed: {error}"));
        assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.text());
        answer.json()
    }

    /// What is not as on AWS when all goes well; what is not named here is as always.
    pub fn set(&self, settings: &Value) {
        self.tell("PUT", "/settings", settings);
    }

    /// Asks for a fault.
    pub fn fault(&self, fault: &Value) -> Fault<'_> {
        let number = self.tell("POST", "/faults", fault);
        Fault { scenario: self, path: format!("/faults/{number}") }
    }

    /// A fault at the first request of one function for one operation of a service.
    pub fn fault_at(&self, function: &str, service: &str, operation: &str, does: &str) -> Fault<'_> {
        self.fault(&json!({
            "at": { "function": function, "service": service, "operation": operation }, "do": does,
        }))
    }

    /// All requests so far, in order.
    pub fn log(&self) -> Vec<Request> {
        let log = self.tell("GET", "/log", &Value::Null);
        log.as_array().expect("a list").iter().map(Request::read).collect()
    }

    /// Those of one operation of a service.
    pub fn requests(&self, service: &str, operation: &str) -> Vec<Request> {
        let wanted = |request: &Request| request.service == service && request.operation == operation;
        self.log().into_iter().filter(wanted).collect()
    }

    /// A session of one of the deployment's roles (`ApiRole`).
    pub fn session(&self, role: &str) -> Session {
        let told = self.tell("POST", "/session", &json!({ "role": role }));
        let role = told["role"].as_str().expect("an ARN").to_owned();
        Session { role, credentials: told["credentials"].clone() }
    }

    /// Lets the schedule's minute be over.
    pub fn tick(&self) {
        self.tell("POST", "/tick", &Value::Null);
    }

    /// Does something to the task of a lease when it runs: `{"lease": ID, "signal": "SIGKILL"}`, or `"memory": BYTES`; its ARN.
    pub fn task(&self, told: &Value) -> String {
        self.tell("POST", "/task", told).as_str().expect("an ARN").to_owned()
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        let _ = self.send("DELETE", "", &Value::Null);
    }
}
