//! Limits of where requests lead, over real sockets: addresses, names, redirects, kept connections.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A server at that address which gives this answer to everybody.
async fn server(address: &str, answer: String) -> u16 {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}

fn fine() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

fn client(allow: &[&str], deny: &[&str]) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let limits = ReachConfig { allow: list(allow), deny: list(deny) };
    Client::reaching(Config::default(), Reach::new("notifications", &limits))
}

/// Status, or why there is none.
async fn ask(client: &Client, url: &str) -> Result<u16, String> {
    let request = client.request(reqwest::Method::POST, url).map_err(|error| error.to_string())?;
    let answer = request.body("{}").send().await.map_err(|error| describe(&error))?;
    Ok(answer.status().as_u16())
}

/// The same over a connection that is kept, as scrapes go.
async fn ask_kept(client: &Client, url: &str) -> Result<u16, String> {
    let request = client.direct_request(url).map_err(|error| error.to_string())?.build().unwrap();
    let answer = client.get(&mut Kept::default(), &request, Vec::new()).await.map_err(|error| error.to_string())?;
    Ok(answer.status.as_u16())
}

#[tokio::test]
async fn what_is_denied_is_never_connected_to_however_it_is_named() {
    let port = server("127.0.0.1", fine()).await;
    let closed = client(&[], &["127.0.0.1", "::1"]);
    let key = "is in security.outgoing.notifications.deny";
    for host in ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        let said = [ask(&closed, &url).await.unwrap_err(), ask_kept(&closed, &url).await.unwrap_err()];
        assert!(said.iter().all(|said| said.contains(key) && said.contains("refused: ")), "{host}: {said:?}");
        assert_eq!(ask(&client(&["127.0.0.0/8"], &[]), &url).await, Ok(200), "{host}");
        assert_eq!(ask_kept(&client(&["127.0.0.0/8"], &[]), &url).await, Ok(200), "{host}");
        let elsewhere = ask(&client(&["10.0.0.0/8"], &[]), &url).await.unwrap_err();
        assert!(elsewhere.contains("is not in security.outgoing.notifications.allow"), "{elsewhere}");
    }
    let said = ask(&closed, &format!("http://localhost:{port}/")).await.unwrap_err();
    assert!(said.contains("`localhost` leads to "), "{said}");
}

#[tokio::test]
async fn redirects_lead_no_further_than_first_requests() {
    let inner = server("127.0.0.1", fine()).await;
    let limits = client(&[], &["127.0.0.1", "::1"]);
    for target in [format!("http://127.0.0.1:{inner}/"), format!("http://localhost:{inner}/")] {
        let outer = server("127.0.0.2", to(&target)).await;
        let url = format!("http://127.0.0.2:{outer}/");
        assert_eq!(ask(&client(&[], &[]), &url).await, Ok(200), "{target}");
        let said = ask(&limits, &url).await.unwrap_err();
        assert!(said.contains("security.outgoing.notifications.deny"), "{target}: {said}");
    }
    // Where clouds keep credentials, without any list; nobody is asked.
    let outer = server("127.0.0.2", to("http://169.254.169.254/latest/meta-data/")).await;
    let said = ask(&client(&[], &[]), &format!("http://127.0.0.2:{outer}/")).await.unwrap_err();
    assert!(said.contains("169.254.169.254 hands out credentials"), "{said}");
    let said = ask(&client(&[], &[]), "http://[::ffff:169.254.169.254]/").await.unwrap_err();
    assert!(said.contains("169.254.169.254 hands out credentials"), "{said}");
}

#[tokio::test]
async fn a_proxy_is_connected_to_and_must_be_open_itself() {
    let limits =
        Reach::new("scrape", &ReachConfig { deny: vec!["127.0.0.1".parse().unwrap()], ..ReachConfig::default() });
    let with_proxy = config("proxy_url: http://127.0.0.1:1");
    let refused =
        Client::reaching(with_proxy, limits).request(reqwest::Method::GET, "http://mesh.example/").unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(reason) if reason.contains("security.outgoing.scrape.deny")),
        "{refused}"
    );
}
