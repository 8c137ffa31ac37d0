//! DynamoDB, as far as a hit needs it: GetItem over TLS, without delay, and a count of all that was asked.

use std::{
    fs,
    path::Path,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::{Fallible, sigv4::is_signed};

/// What this machine trusts already. Functions get it with our own authority behind it, since reading it is part of their start.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A table of one row.
#[derive(Clone)]
pub struct Table {
    /// `TableName`.
    pub name: String,
    /// The row's `pk`.
    pub pk: String,
    /// The row, as DynamoDB writes it in JSON.
    pub item: Value,
}

/// What was asked since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Eventually consistent reads of the row.
    pub hits: usize,
    /// Such reads of rows that are not there.
    pub misses: usize,
    /// All else, which no hit has a reason for.
    pub faults: Vec<String>,
}

/// What was asked, and the last read's headers and body. Its signature is verified later, since a reader waits here.
#[derive(Default)]
struct Seen {
    asked: Asked,
    last: Option<(HeaderMap, Bytes)>,
}

/// The service.
pub struct Dynamo {
    /// `AWS_ENDPOINT_URL`.
    pub endpoint: String,
    /// The authority that signed for it, alone.
    pub authority: PathBuf,
    /// The machine's authorities, and ours.
    pub authorities: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

impl Dynamo {
    /// Listens on a free port, with a certificate of an authority whose file is put into `scratch`.
    pub async fn start(scratch: &Path, table: Table) -> Fallible<Dynamo> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed that has its issuer's name.
        params.distinguished_name.push(DnType::CommonName, "binplz bench authority");
        let authority = params.self_signed(&key)?;
        let own_key = KeyPair::generate()?;
        let own = CertificateParams::new(["127.0.0.1".to_owned()])?
            .signed_by(&own_key, &Issuer::from_params(&params, &key))?;
        let mut tls = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(own_key.serialize_der())?)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];

        let alone = scratch.join("authority.pem");
        fs::write(&alone, authority.pem())?;
        let authorities = scratch.join("authorities.pem");
        fs::write(&authorities, [fs::read(AUTHORITIES)?, authority.pem().into_bytes()].concat())?;

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("https://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Seen>>::default();
        let (acceptor, table, noted) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(table), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let (acceptor, table, seen) = (acceptor.clone(), Arc::clone(&table), Arc::clone(&noted));
                tokio::spawn(async move {
                    let stream = match acceptor.accept(stream).await {
                        Ok(stream) => stream,
                        Err(error) => return note(&seen, |seen| seen.asked.faults.push(format!("TLS: {error}"))),
                    };
                    let service = service_fn(|request| answer(&table, &seen, request));
                    // A function that is killed leaves its connection as it is.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Dynamo { endpoint, authority: alone, authorities, seen })
    }

    /// What was asked since the last look.
    pub fn asked(&self) -> Asked {
        let Seen { mut asked, last } = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if last.is_some_and(|(headers, body)| !is_signed(&headers, &body)) {
            asked.faults.push("the signature of the last read is wrong".to_owned());
        }
        asked
    }
}

fn note(seen: &Mutex<Seen>, what: impl FnOnce(&mut Seen)) {
    what(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

async fn answer(table: &Table, seen: &Mutex<Seen>, request: Request<Incoming>) -> Fallible<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (status, answer) = match row_asked(table, &head.headers, &body) {
        Ok(pk) if pk == table.pk => {
            note(seen, |seen| seen.asked.hits += 1);
            (StatusCode::OK, json!({ "Item": table.item }))
        }
        Ok(_) => {
            note(seen, |seen| seen.asked.misses += 1);
            (StatusCode::OK, json!({}))
        }
        Err(fault) => {
            note(seen, |seen| seen.asked.faults.push(fault));
            (StatusCode::BAD_REQUEST, json!({ "__type": "com.amazon.coral.validate#ValidationException" }))
        }
    };
    note(seen, |seen| seen.last = Some((head.headers, body)));
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    let response = response.header("x-amzn-requestid", "RVCQ6SSQ24IUD7ACNT4Q5F4RVVV4KQNSO5AEMVJF66Q9ASUAAJG");
    Ok(response.body(Full::from(answer.to_string()))?)
}

/// The key of the row that an eventually consistent, signed GetItem asks for.
fn row_asked(table: &Table, headers: &HeaderMap, body: &[u8]) -> Result<String, String> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let target = header("x-amz-target");
    let signed = header("authorization");
    let eventual = matches!(request.get("ConsistentRead"), None | Some(Value::Bool(false)));
    match request["Key"]["pk"]["S"].as_str() {
        Some(pk)
            if target == "DynamoDB_20120810.GetItem"
                && eventual
                && request["TableName"] == table.name.as_str()
                && signed.starts_with("AWS4-HMAC-SHA256 Credential=")
                && signed.contains("/dynamodb/aws4_request") =>
        {
            Ok(pk.to_owned())
        }
        _ => Err(format!("{target} {request}")),
    }
}
