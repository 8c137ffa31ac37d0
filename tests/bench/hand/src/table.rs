//! A table of DynamoDB, on one kept TLS connection.

use std::{borrow::Cow, net::TcpStream, sync::Arc};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::ServerName};
use serde::Deserialize;
use serde_json::json;

use crate::{Fallible, http::exchange, sigv4::Signer};

const GET_ITEM: &str = "DynamoDB_20120810.GetItem";

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow, rename = "Item")]
    item: Option<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    body: Text<'a>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow, rename = "S")]
    text: Cow<'a, str>,
}

pub struct Table {
    name: String,
    host: String,
    tls: Arc<ClientConfig>,
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl Table {
    pub fn open(signer: &Signer, name: String) -> Fallible<Table> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (tls, host) = (Arc::new(tls), signer.host().to_owned());
        let stream = connect(&tls, &host)?;
        Ok(Table { name, host, tls, stream, received: Vec::new() })
    }

    /// The `body` of a row.
    pub fn get(&mut self, signer: &Signer, pk: &str) -> Fallible<Option<String>> {
        let asked = json!({ "TableName": self.name, "Key": { "pk": { "S": pk } } }).to_string();
        let request = signer.post("dynamodb", GET_ITEM, &asked);
        let answer = match exchange(&mut self.stream, &mut self.received, request.as_bytes()) {
            Ok(answer) => answer,
            // After a pause, the server may have closed the connection.
            Err(_) => {
                self.stream = connect(&self.tls, &self.host)?;
                exchange(&mut self.stream, &mut self.received, request.as_bytes())?
            }
        };
        let found: Found = serde_json::from_slice(answer.body)?;
        Ok(found.item.map(|item| item.body.text.into_owned()))
    }
}

fn connect(tls: &Arc<ClientConfig>, host: &str) -> Fallible<StreamOwned<ClientConnection, TcpStream>> {
    let stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let connection = ClientConnection::new(Arc::clone(tls), ServerName::try_from(name.to_owned())?)?;
    Ok(StreamOwned::new(connection, stream))
}
