use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    notice::template::sample,
    offence::{Audience, How, NoticeEvent, Sanction},
};

const KEY: &str = "correct horse battery staple";

fn facts() -> Facts {
    let event = NoticeEvent::Lifted {
        sanction: Sanction::BlockSmtp,
        how: How::Rule,
        still: Vec::new(),
    };
    sample::facts(Audience::Contact, event, true)
}

/// Answers one connection after the other with `answers`, and returns what came.
fn serve(answers: Vec<&'static str>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let mut came = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            came.push(talk(stream, answer));
        }
        came
    });
    (address, serving)
}

fn talk(mut stream: TcpStream, answer: &str) -> String {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn settings(address: SocketAddr, key_file: Option<PathBuf>) -> WebhookSettings {
    WebhookSettings {
        url: format!("http://{address}/hook?token=secret"),
        key_file,
        timeout: Duration::from_secs(10),
    }
}

fn key_file(directory: &tempfile::TempDir, mode: u32) -> PathBuf {
    let file = directory.path().join("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_posts_can_be_verified_by_others() {
    let directory = tempfile::tempdir().unwrap();
    let (address, serving) = serve(vec!["HTTP/1.1 204 No Content\r\n\r\n"]);
    let settings = settings(address, Some(key_file(&directory, 0o600)));
    assert_eq!(post(&settings, &facts()).await, Ok("204".to_owned()));
    let came = serving.join().unwrap().remove(0);
    let (head, body) = came.split_once("\r\n\r\n").unwrap();
    let value = |name: &str| {
        let found = head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found
            .unwrap_or_else(|| panic!("{name} in {head}"))
            .to_owned()
    };
    assert!(
        head.starts_with("POST /hook?token=secret HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(value("host"), address.to_string());
    assert_eq!(value("content-type"), "application/json");
    assert_eq!(value("idempotency-key"), facts().event_id);
    assert_eq!(value("x-limiter-event"), "lifted");
    assert_eq!(serde_json::from_str::<Facts>(body).unwrap(), facts());

    let signature = value("x-limiter-signature");
    let (time, mac) = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .unwrap();
    let age = Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{signature}");
    // Somebody else's HMAC.
    let file = directory.path().join("signed");
    fs::write(&file, format!("{time}.{body}")).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", KEY, "-r"])
        .arg(&file)
        .output()
        .unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs.split_whitespace().next(), Some(mac), "{theirs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_2xx_is_a_failure_and_tells_no_secret() {
    let answers = vec![
        "HTTP/1.1 500 Oops\r\ncontent-length: 7\r\n\r\nno\x1b[2Jx",
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 410 Gone\r\ncontent-length: 100\r\n\r\nshort",
        "nonsense\r\n\r\n",
        "",
    ];
    let expected = [
        r"it answered 500 no\u{1b}[2Jx",
        "302",
        "410 short",
        "invalid HTTP",
        "",
    ];
    let (address, serving) = serve(answers);
    for expected in expected {
        let failure = post(&settings(address, None), &facts()).await.unwrap_err();
        assert!(failure.error.contains(expected), "{expected}: {failure}");
        assert!(
            failure.error.starts_with("the webhook at 127.0.0.1: "),
            "{failure}"
        );
        assert!(!failure.error.contains("secret"), "{failure}");
    }
    for request in serving.join().unwrap() {
        assert!(!request.contains("signature"), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_receiver_that_hangs_or_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hanging = settings(listener.local_addr().unwrap(), None);
    hanging.timeout = Duration::from_secs(1);
    let start = Instant::now();
    let failure = post(&hanging, &facts()).await.unwrap_err();
    assert!(failure.error.contains("no answer within 1 s"), "{failure}");
    assert!(start.elapsed() < Duration::from_secs(8));
    drop(listener);
    let failure = post(&hanging, &facts()).await.unwrap_err();
    assert!(failure.error.contains("cannot connect"), "{failure}");
}

/// An endless answer is not read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut writer = stream.try_clone().unwrap();
        talk(
            stream,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        while writer.write_all(b"3e8\r\n").is_ok()
            && writer.write_all(&[b'x'; 1_000]).is_ok()
            && writer.write_all(b"\r\n").is_ok()
        {}
    });
    let receipt = post(&settings(address, None), &facts()).await.unwrap();
    assert!(
        receipt.starts_with("200 xxx") && receipt.len() < 1_000,
        "{receipt}"
    );
    serving.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_signs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody is asked at all.
    let address = "127.0.0.1:9".parse().unwrap();
    let open = settings(address, Some(key_file(&directory, 0o640)));
    let failure = post(&open, &facts()).await.unwrap_err();
    assert!(
        failure.error.contains("can be read by others; chmod 600"),
        "{failure}"
    );
    let missing = settings(address, Some(directory.path().join("none")));
    let failure = post(&missing, &facts()).await.unwrap_err();
    assert!(failure.error.contains("cannot be read"), "{failure}");
    fs::write(key_file(&directory, 0o600), "short\n").unwrap();
    let failure = read_key(&directory.path().join("key")).unwrap_err();
    assert!(failure.contains("less than 16 bytes"), "{failure}");
    assert_eq!(
        read_key(&key_file(&directory, 0o600)),
        Ok(KEY.as_bytes().to_vec())
    );
}

/// A real TLS server: refused until the node trusts it, and only under its own name.
#[test]
fn tls_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let port = serve_tls(&path("cert.pem"), &path("key.pem"));
    // The roots come from the environment of the process: another one asks, this test again.
    let ask = |host: &str, roots: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "notice::webhook::tests::ask_over_tls",
                "--nocapture",
            ])
            .env("LIMITER_TEST_URL", format!("https://{host}:{port}/"))
            .env("SSL_CERT_FILE", path(roots))
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let trusted = ask("localhost", "cert.pem");
    let stranger = ask("127.0.0.1", "cert.pem");
    fs::write(path("empty.pem"), "").unwrap();
    let nobody = ask("localhost", "empty.pem");
    assert!(trusted.contains("answer: Ok(\"200 ok\")"), "{trusted}");
    assert!(
        stranger.contains("answer: Err") && stranger.contains("TLS: invalid peer certificate"),
        "{stranger}"
    );
    assert!(
        nobody.contains("trusts no certificate authority"),
        "{nobody}"
    );
}

/// Answers whoever comes over TLS; the port.
fn serve_tls(cert: &str, key: &str) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ServerConfig,
            crypto::ring::default_provider,
            pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        },
    };
    let cert = CertificateDer::from_pem_file(cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut came = [0; 4_096];
                assert!(stream.read(&mut came).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
    });
    port
}

/// The other half of the test above: posts to the URL in the environment, if there is one.
#[tokio::test(flavor = "multi_thread")]
async fn ask_over_tls() {
    let url = std::env::var("LIMITER_TEST_URL");
    let url = url.unwrap_or_else(|_| "https://127.0.0.1:9/".to_owned());
    let settings = WebhookSettings {
        url: url.clone(),
        key_file: None,
        timeout: Duration::from_secs(20),
    };
    let answer = post(&settings, &facts()).await;
    println!("answer: {answer:?}");
    if url.ends_with(":9/") {
        assert!(answer.unwrap_err().error.contains("cannot connect"));
    }
}
