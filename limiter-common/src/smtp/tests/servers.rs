//! Dialogs as mail programs have them.

use std::{format, string::String, vec::Vec};

use super::dialog::Wire;
use crate::smtp::Session;

/// Plays `C: ` and `S: ` lines; consecutive lines of one peer go together. `~` in front of a
/// client's line begins another packet.
fn play(wire: &mut Wire, script: &str) {
    let mut server = 0;
    let mut client = String::new();
    let lines: Vec<&str> = script.lines().map(str::trim_start).collect();
    for line in lines.iter().chain(&["S: "]) {
        if let Some(said) = line.strip_prefix("C: ") {
            if server > 0 {
                wire.hear_and_ack(server);
                server = 0;
            }
            client.push_str(&format!("{said}\r\n"));
        } else if let Some(said) = line.strip_prefix("S: ") {
            if !client.is_empty() {
                wire.say(&client);
                client.clear();
            }
            server += said.len() + 2;
        }
    }
    wire.hear_and_ack(server);
}

/// smtp(8) of Postfix to Postfix: pipelined, two messages in one session.
#[test]
fn postfix() {
    let mut wire = Wire::open(99);
    play(
        &mut wire,
        "S: 220 mx.example.net ESMTP Postfix
         C: EHLO node.example.org
         S: 250-mx.example.net
         S: 250-PIPELINING
         S: 250-SIZE 52428800
         S: 250-ENHANCEDSTATUSCODES
         S: 250-8BITMIME
         S: 250 CHUNKING
         C: MAIL FROM:<alice@example.org> SIZE=412
         C: RCPT TO:<bob@example.net> ORCPT=rfc822;bob@example.net
         C: RCPT TO:<carol@example.net> ORCPT=rfc822;carol@example.net
         C: DATA
         S: 250 2.1.0 Ok
         S: 250 2.1.5 Ok
         S: 550 5.1.1 <carol@example.net>: Recipient address rejected: User unknown
         S: 354 End data with <CR><LF>.<CR><LF>
         C: Received: by node.example.org (Postfix, from userid 1000)
         C: From: alice@example.org
         C: 
         C: ..
         C: QUIT
         C: .
         S: 250 2.0.0 Ok: queued as 4b2QxY1zKfz9v
         C: RSET
         S: 250 2.0.0 Ok
         C: MAIL FROM:<alice@example.org> SIZE=412
         C: RCPT TO:<dan@example.net> ORCPT=rfc822;dan@example.net
         C: DATA
         S: 250 2.1.0 Ok
         S: 554 5.7.1 <dan@example.net>: Relay access denied
         S: 554 5.5.1 Error: no valid recipients
         C: RSET
         S: 250 2.0.0 Ok
         C: MAIL FROM:<alice@example.org> SIZE=412
         C: RCPT TO:<erin@example.net> ORCPT=rfc822;erin@example.net
         C: DATA
         S: 250 2.1.0 Ok
         S: 250 2.1.5 Ok
         S: 354 End data with <CR><LF>.<CR><LF>
         C: Subject: hello
         C: 
         C: hello
         C: .
         C: QUIT
         S: 250 2.0.0 Ok: queued as 4b2QxY1zKfz9w
         S: 221 2.0.0 Bye",
    );
    // The refused DATA was an attempt.
    assert_eq!(wire.counted(), (3, 4, false));
}

/// Exim's smtp transport with CHUNKING.
#[test]
fn exim_with_chunks() {
    let mut wire = Wire::open(99);
    play(
        &mut wire,
        "S: 220 mx.example.net ESMTP Exim 4.97 Thu, 01 Jan 2026 00:00:00 +0000
         C: EHLO node.example.org
         S: 250-mx.example.net Hello node.example.org [192.0.2.1]
         S: 250-SIZE 52428800
         S: 250-8BITMIME
         S: 250-PIPELINING
         S: 250-CHUNKING
         S: 250 HELP
         C: MAIL FROM:<alice@example.org> SIZE=1517
         C: RCPT TO:<bob@example.net>
         C: BDAT 61 LAST
         C: Received: from alice by node.example.org
         C: Subject: MAIL
         C: 
         S: 250 OK
         S: 250 Accepted
         S: 250- 61 byte chunk, total 61
         S: 250 OK id=1tXbYz-00000000abc-1234
         C: QUIT
         S: 221 mx.example.net closing connection",
    );
    assert_eq!(wire.counted(), (1, 1, false));
}

/// Python's smtplib: never pipelined, in lower case.
#[test]
fn smtplib() {
    let mut wire = Wire::open(99);
    play(
        &mut wire,
        "S: 220 mx.example.net ESMTP
         C: ehlo [127.0.1.1]
         S: 250-mx.example.net
         S: 250 SIZE 10240000
         C: mail FROM:<a@example.org> size=61
         S: 250 2.1.0 Ok
         C: rcpt TO:<b@example.net>
         S: 250 2.1.5 Ok
         C: data
         S: 354 go ahead
         C: Subject: x
         C: 
         C: text
         C: .
         S: 250 ok 1767225600 qp 12345
         C: quit
         S: 221 bye",
    );
    assert_eq!(wire.counted(), (1, 1, false));
}

/// A line of a chunk says what it likes: it is passed over.
#[test]
fn chunks_that_look_like_commands() {
    let mut wire = Wire::open(1);
    wire.hear_and_ack(40);
    wire.say("EHLO a\r\n");
    wire.hear_and_ack(100);
    let inner = "MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n";
    wire.say(format!(
        "MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nBDAT {}\r\n{inner}BDAT 0\r\nBDAT 5 last\r\n12345",
        inner.len()
    ));
    wire.hear_and_ack(100);
    wire.say("QUIT\r\n");
    assert_eq!(wire.counted(), (1, 1, false));
}

/// One whose beginning was missed counts one message, and no second for the same mail.
#[test]
fn first_seen_in_the_middle() {
    let mut wire = Wire::new(Session::unknown(), 5);
    assert_eq!(wire.counted(), (0, 0, true));
    play(
        &mut wire,
        "C: RCPT TO:<b@example.net>
         S: 250 2.1.5 Ok
         C: DATA
         S: 354 go ahead
         C: text
         C: .
         S: 250 ok 1767225600 qp 12345
         C: QUIT
         S: 221 bye",
    );
    assert_eq!(wire.counted(), (1, 1, true));
}
