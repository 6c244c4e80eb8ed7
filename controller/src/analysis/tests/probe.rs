use std::io::{Read as _, Write as _};

use super::*;

fn http(url: &str, fields: Value) -> Analysis {
    let mut metric = json!({"url": url});
    if let (Some(metric), Value::Object(fields)) = (metric.as_object_mut(), fields) {
        metric.extend(fields);
    }
    analysis(json!({"http": metric}))
}

/// A server that answers its first connection with these bytes, and then waits for its end.
fn raw(answer: Vec<u8>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("connection");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&answer);
        let _ = stream.read(&mut [0; 4096]);
    });
    address
}

#[tokio::test]
async fn an_address_is_asked_as_it_is_written() {
    let (address, log) = serve(|_| reply(201, "{\"queue\": 3}")).await;
    let fields = json!({"method": "POST", "body": "{}", "headers": [{"name": "X-Test", "value": "a b"}]});
    let observed =
        observe(&http(&format!("http://{address}/x/{{{{workload}}}}?q=%20a"), fields), &Access::default()).await;
    assert_eq!(observed, Observation::Http { status: 201, body: Some("{\"queue\": 3}".into()) });
    let seen = log.lock().expect("log").pop().expect("asked");
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_str()), ("POST", "/x/teller?q=%20a", "{}"));
    assert_eq!((seen.headers["x-test"].as_str(), seen.headers["content-type"].as_str()), ("a b", "application/json"));
    let observed = observe(&http(&format!("http://{address}"), json!({"method": "HEAD"})), &Access::default()).await;
    assert_eq!(observed, Observation::Http { status: 201, body: None });
}

#[tokio::test]
async fn a_redirect_is_a_status_like_any_other() {
    let (elsewhere, log) = serve(|_| reply(200, "secret")).await;
    let (address, _) = serve(move |_| {
        let mut response = reply(302, "");
        response.headers_mut().insert("location", format!("http://{elsewhere}/").parse().expect("header"));
        response
    })
    .await;
    let observed = observe(&http(&format!("http://{address}"), json!({})), &Access::default()).await;
    assert_eq!(observed, Observation::Http { status: 302, body: None });
    assert_eq!(log.lock().expect("log").len(), 0);
}

#[tokio::test]
async fn whatever_goes_wrong_ends_in_time_and_names_only_the_server() {
    let with_path = |address: SocketAddr| format!("http://{address}/hidden?token=hunter2");
    let check = async |url: &str, fields: Value, expected: &str| {
        let why = error(&http(url, fields), &Access::default()).await;
        assert!(why.ends_with(expected), "{why}");
        assert!(!why.contains("hunter2") && !why.contains("hidden"), "{why}");
    };
    let silent = raw(Vec::new());
    check(&with_path(silent), json!({"timeout": "1s"}), &format!("http://{silent} has not answered within 1s")).await;
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("port");
    check(&with_path(closed), json!({}), &format!("http://{closed} cannot be reached: connection refused")).await;
    check(&with_path(raw(b"SSH-2.0-x\r\n".to_vec())), json!({}), "did not answer in HTTP, or its answer broke off")
        .await;
    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..17 {
        endless.extend(b"10000\r\n");
        endless.extend(vec![b'x'; 0x1_0000]);
        endless.extend(b"\r\n");
    }
    let large = raw(endless);
    check(
        &with_path(large),
        json!({}),
        &format!("the answer of http://{large} is larger than 1048576 bytes: ask for less"),
    )
    .await;
    let head = raw([b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".repeat(100_000)].concat());
    check(&with_path(head), json!({}), "did not answer in HTTP, or its answer broke off").await;
    let broken = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec());
    check(&with_path(broken), json!({"timeout": "1s"}), "has not answered within 1s").await;
    let name = "http://no-such-host.invalid:80";
    check(&format!("{name}/hidden"), json!({}), &format!("{name} cannot be found: its name does not resolve")).await;
}

/// A name is looked up, and what it leads to decides, not how it is spelt.
#[tokio::test]
async fn the_machine_itself_and_metadata_services_are_not_asked() {
    let (address, log) = serve(|_| reply(200, "secret")).await;
    let careful = Client::new(Guard::default());
    let port = address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "169.254.169.254", "[::1]"] {
        let analysis = http(&format!("http://{host}:{port}/"), json!({"timeout": "2s"}));
        let observed = measure(&careful, &Access::default(), &analysis, &slot(), &subject()).await;
        let Observation::Error(why) = observed else { panic!("{host}: {observed:?}") };
        assert!(why.starts_with(&format!("nothing was sent to http://{host}:{port}: its address is refused")), "{why}");
    }
    assert_eq!(log.lock().expect("log").len(), 0);
    for url in ["file:///etc/passwd", "gopher://a:70/", "ftp://a/", "http://user:pass@127.0.0.1/"] {
        let why = error(&http(url, json!({})), &Access::default()).await;
        assert_eq!(why, "the address is not http://HOST:PORT/... or https://HOST:PORT/...", "{url}");
    }
}
