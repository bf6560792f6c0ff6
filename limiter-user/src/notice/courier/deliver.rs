//! One attempt.

use crate::notice::{
    backoff::Failure, channel::Channel, courier::CourierSettings, exec, mail, outbox::Delivery,
    webhook,
};

/// Delivers `job`: several are one mail to one address.
///
/// # Errors
/// Why it did not work.
pub(super) async fn attempt(
    settings: &CourierSettings,
    job: &[Delivery],
) -> Result<String, Failure> {
    let Some(first) = job.first().map(|delivery| &delivery.planned) else {
        return Ok(String::new());
    };
    let off = |key: &str| Failure::again(format!("{key} is switched off"));
    let notices = &settings.notices;
    match &first.channel {
        Channel::Mail { to } => {
            let mail = notices.mail.as_ref().ok_or_else(|| off("notices.from"))?;
            let facts = job.iter().map(|delivery| delivery.planned.facts.clone());
            mail::send(
                mail,
                &settings.templates(),
                &settings.node,
                facts.collect(),
                to,
            )
            .await
        }
        Channel::Webhook => {
            let webhook = notices.webhook.as_ref();
            let webhook = webhook.ok_or_else(|| off("notices.webhook"))?;
            webhook::post(webhook, &first.facts).await
        }
        Channel::Exec => {
            let exec = notices.exec.as_ref().ok_or_else(|| off("notices.exec"))?;
            exec::run(exec, &first.facts).await
        }
    }
}
