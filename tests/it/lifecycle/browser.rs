//! The dashboard in a real browser, beside a real application: what people see, click and type.

use std::path::PathBuf;

use xtask::{
    browser::{Browser, Look},
    testing,
};

use super::life::{self, Life, SOON, TO_GONE, recipe};

const DESK: Look = Look { width: 1280, height: 900, dark: false };
const WIDE: Look = Look { width: 2560, height: 1300, dark: true };
const PHONE: Look = Look { width: 390, height: 844, dark: true };
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

/// Kept for whoever wants to look at them.
fn picture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots").join(format!("{name}.png"))
}

/// Nothing that the browser complains about, no barrier, no page wider than the window.
async fn is_well(browser: &Browser, name: &str) {
    browser.photograph(&picture(name)).await.unwrap();
    let complaints = browser.complaints().await.unwrap();
    assert!(complaints.is_empty(), "{name}: {complaints:#?}");
    let barriers = browser.barriers().await.unwrap();
    assert!(barriers.is_empty(), "{name}: {barriers:#?}");
    let wider = "return document.documentElement.scrollWidth - window.innerWidth";
    assert!(browser.run(wider).await.unwrap().as_i64().unwrap() <= 0, "{name} is wider than the window");
}

async fn sign_in(browser: &Browser, life: &Life, token: &str) {
    browser.open(&format!("{}/", life.stand.url)).await.unwrap();
    browser.type_into("#token", token).await.unwrap();
    browser.click("main button").await.unwrap();
    browser.until_text("h1", "Environments", SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_watches_a_preview_from_its_beginning_to_its_end() {
    let Some(ground) = life::node().await else { return };
    if testing::browser().is_none() {
        return;
    }
    let life = Life::start(ground, "dashboard").await;
    let token = life.stand.create_token("Ann", "admin", &["shop"]).await.unwrap();
    let browser = Browser::start(DESK).await.unwrap();
    browser.open(&format!("{}/", life.stand.url)).await.unwrap();
    is_well(&browser, "sign-in").await;
    browser.type_into("#token", "pvd_wrong").await.unwrap();
    browser.click("main button").await.unwrap();
    browser.until_text("[role=alert]", "not valid", SOON).await.unwrap();
    // The answer's status is one of the browser's complaints.
    browser.complaints().await.unwrap();
    sign_in(&browser, &life, &token).await;
    browser.until_text("main", "Nothing here", SOON).await.unwrap();
    is_well(&browser, "nothing-yet").await;

    // The list changes by itself.
    let number = life.open("change", &recipe("ok")).await;
    browser.until_text("main", "A change", SOON).await.unwrap();
    life.until_running(number).await;
    browser.until_text("main", "running", SOON).await.unwrap();
    is_well(&browser, "environments").await;
    browser.open(&format!("{}/?status=failed", life.stand.url)).await.unwrap();
    browser.until_text("main", "Nothing here", SOON).await.unwrap();
    browser.open(&format!("{}/?text=CHANGE", life.stand.url)).await.unwrap();
    browser.click("a.title").await.unwrap();
    browser.until_text("h1", "A change", SOON).await.unwrap();
    browser.until_text("#log", "line ", SOON).await.unwrap();
    is_well(&browser, "environment").await;

    // Logs as they are written.
    browser.click("#log-live").await.unwrap();
    browser.until_text("#log", "line ", SOON).await.unwrap();
    let environment = life.get(number).await;
    life.post(&environment, "/say", "<b>hello</b> browser").await;
    browser.until_text("#log", "<b>hello</b> browser", SOON).await.unwrap();
    is_well(&browser, "logs").await;
    browser.click("[name=timestamps]").await.unwrap();
    browser.until_text("#log time", ":", SOON).await.unwrap();
    let is_local = "const time = document.querySelector('#log time'); \
                    return time.title.includes(`(${time.dateTime})`) && !time.textContent.includes('T')";
    assert_eq!(browser.run(is_local).await.unwrap(), true, "local time, the exact one on hover");

    // A failure, and what may be done about it.
    let broken = recipe("crash");
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &broken)]).await.unwrap();
    life.until(number, life::TO_RUNNING * 4, |found| found["status"] == "failed").await;
    browser.until_text("#state", "failed", SOON).await.unwrap();
    browser.click("#state form[action$=retry] button").await.unwrap();
    browser.until_text("#timeline", "retry_requested", SOON).await.unwrap();
    browser.click("a.danger").await.unwrap();
    browser.until_text("h1", "Delete", SOON).await.unwrap();
    is_well(&browser, "delete").await;
    browser.type_into("#confirm", &format!("{}#{number}", life.repository)).await.unwrap();
    browser.click("main button.danger").await.unwrap();
    browser.until_text("#state", "deleting", SOON).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    browser.until_text("#state", "deleted", SOON).await.unwrap();
    is_well(&browser, "deleted").await;
    browser.open(&format!("{}/events", life.stand.url)).await.unwrap();
    browser.until_text("main", "deletion_requested", SOON).await.unwrap();
    is_well(&browser, "events").await;
    browser.click("header form button").await.unwrap();
    browser.until_text("h1", "Sign in", SOON).await.unwrap();
    life.finish().await;
}

/// Goes from stop to stop to the first link of a class, and follows it.
async fn follow_by_keyboard(browser: &Browser, class: &str) {
    let mut is_there = false;
    for _ in 0..80 {
        browser.press(&TAB.to_string()).await.unwrap();
        let is_it = format!("return document.activeElement.classList.contains('{class}')");
        is_there = browser.run(&is_it).await.unwrap() == true;
        if is_there {
            break;
        }
    }
    assert!(is_there, "no stop of the keyboard is a {class}");
    browser.press(&ENTER.to_string()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_in_the_dark_and_a_keyboard_alone_do() {
    let Some(ground) = life::api_only().await else { return };
    if testing::browser().is_none() {
        return;
    }
    let life = Life::start(ground, "phone").await;
    let token = life.stand.create_token("operator", "operator", &[]).await.unwrap();
    let number = life.open("change", &recipe("ok")).await;
    let browser = Browser::start(PHONE).await.unwrap();
    browser.open(&format!("{}/", life.stand.url)).await.unwrap();
    // The field has the focus, and Enter sends the form.
    browser.press(&format!("{token}{ENTER}")).await.unwrap();
    browser.until_text("main", "A change", SOON).await.unwrap();
    let dark = "return matchMedia('(prefers-color-scheme: dark)').matches && getComputedStyle(document.documentElement).backgroundColor";
    assert_eq!(browser.run(dark).await.unwrap(), "rgb(17, 20, 24)");
    is_well(&browser, "phone-environments").await;

    // The first stop skips what is on every page.
    browser.press(&TAB.to_string()).await.unwrap();
    let focused = "return document.activeElement.textContent";
    assert_eq!(browser.run(focused).await.unwrap(), "Skip to content");
    browser.press(&ENTER.to_string()).await.unwrap();
    follow_by_keyboard(&browser, "title").await;
    browser.until_text("h1", "A change", SOON).await.unwrap();
    is_well(&browser, "phone-environment").await;
    for (path, heading) in [("operation", "Operation"), ("tokens", "Tokens"), ("events", "Events")] {
        browser.open(&format!("{}/{path}", life.stand.url)).await.unwrap();
        browser.until_text("h1", heading, SOON).await.unwrap();
        is_well(&browser, &format!("phone-{path}")).await;
    }
    browser.open(&format!("{}/environments/pr-1-nobody-abcdefghij", life.stand.url)).await.unwrap();
    browser.until_text("h1", "There is nothing here", SOON).await.unwrap();
    browser.complaints().await.unwrap();
    is_well(&browser, "phone-nothing").await;

    // Deleting takes no pointer either: the field has the focus, and Enter is the answer.
    browser.open(&format!("{}/", life.stand.url)).await.unwrap();
    follow_by_keyboard(&browser, "title").await;
    browser.until_text("h1", "A change", SOON).await.unwrap();
    follow_by_keyboard(&browser, "danger").await;
    browser.until_text("h1", "Delete", SOON).await.unwrap();
    browser.press(&format!("{}#{number}{ENTER}", life.repository)).await.unwrap();
    browser.until_text("#state", "delet", SOON).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;

    let wide = Browser::start(WIDE).await.unwrap();
    sign_in(&wide, &life, &token).await;
    wide.open(&format!("{}/?status=deleted", life.stand.url)).await.unwrap();
    wide.until_text("main", "A change", SOON).await.unwrap();
    is_well(&wide, "wide-environments").await;
    life.finish().await;
}
