//! A request to the application: its status, and whether its answer holds a text. Nothing of the answer is kept.

use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use interlock_core::drill::report::DrillReport;
use interlock_crds::HttpValidation;
use tokio::{net::TcpStream, time};

use super::{Pod, done};

/// Time from one attempt to connect to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// Most of an answer that is searched for the text.
const MOST_BODY: usize = 16 << 20;

/// Whether the answer is as expected.
///
/// # Errors
/// There was none.
pub(super) async fn validate(
    pod: &Pod<'_>,
    asked: &HttpValidation,
    limit: Duration,
    report: &mut DrillReport,
) -> Result<(), String> {
    match time::timeout(limit, holds(&pod.application.application, asked)).await {
        Ok(holds) => {
            report.matches = Some(holds?);
            done(report);
        }
        Err(_) => report.timed_out = true,
    }
    Ok(())
}

async fn holds(host: &str, asked: &HttpValidation) -> Result<bool, String> {
    let stream = connect(host, asked.port).await;
    let failed = |error: &dyn std::fmt::Display| format!("no answer of HTTP from {host}:{}: {error}", asked.port);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let request = Request::get(&asked.path)
        .header(header::HOST, format!("{host}:{}", asked.port))
        .header(header::USER_AGENT, concat!("interlock/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{} is no path of a request: {error}", asked.path))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    println!("status {status}");
    if status != asked.expect_status {
        println!("status {} was expected", asked.expect_status);
        return Ok(false);
    }
    let Some(text) = &asked.expect_text else { return Ok(true) };
    let mut body = answer.into_body();
    let (mut tail, mut read) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let Some(bytes) = frame.data_ref() else { continue };
        read += bytes.len();
        tail.extend_from_slice(bytes);
        if tail.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(true);
        }
        if read > MOST_BODY {
            return Err(format!("the answer is longer than {MOST_BODY} bytes, and the text is not in them"));
        }
        // The text may begin at the end of one piece and end in the next.
        let kept = tail.len().saturating_sub(text.len());
        tail.drain(..kept);
    }
    println!("the expected text is not in the {read} bytes of the answer");
    Ok(false)
}

/// A pod without readiness probe is ready before it listens: connecting is tried until the time is over.
async fn connect(host: &str, port: u16) -> TcpStream {
    let mut told = false;
    loop {
        match TcpStream::connect((host, port)).await {
            Ok(stream) => return stream,
            Err(error) if !told => {
                println!("{host}:{port} cannot be reached yet: {error}");
                told = true;
            }
            Err(_) => {}
        }
        time::sleep(PAUSE).await;
    }
}
