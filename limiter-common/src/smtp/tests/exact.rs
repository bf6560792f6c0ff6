//! What is read is counted exactly.

use super::dialog::Wire;

#[test]
fn one_mail_of_postfix() {
    let mut wire = Wire::open(7);
    wire.hear_and_ack(40);
    wire.ask(
        "EHLO a.example\r\n",
        "250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    );
    wire.ask(
        "MAIL FROM:<a@a.example> SIZE=500\r\nRCPT TO:<b@b.example> ORCPT=rfc822;b@b.example\r\nDATA\r\n",
        "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n",
    );
    wire.ask(
        "Subject: x\r\n\r\nMAIL FROM:<x@x>\r\nRCPT TO:<y@y>\r\nDATA\r\n..\r\n.\r\nQUIT\r\n",
        "250 2.0.0 Ok: queued as 4ZZ\r\n221 2.0.0 Bye\r\n",
    );
    assert_eq!(wire.counted(), (1, 1, false));
}
