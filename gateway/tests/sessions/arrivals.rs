//! Visitors who come before the agents: after the start of a gateway that takes the place of another one.

use std::sync::Arc;
use std::time::Duration;

use adit::endpoint_url::EndpointUrl;
use adit_gateway::http::reach::Reach;
use tokio::time::Instant;

use crate::world::World;

const APP: &str = "https://app.internal";

#[tokio::test(start_paused = true)]
async fn visitor_waits_for_an_agent_that_comes_and_not_for_longer_than_it_may() {
    let world = World::new();
    let wait = |world: &World| {
        let gateway = Arc::clone(&world.gateway);
        async move { gateway.arrival("main", &EndpointUrl::parse(APP).unwrap()).await }
    };
    let before = Instant::now();
    wait(&world).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody is expected");

    world.gateway.expect_agents(Duration::from_secs(20));
    let waiting = tokio::spawn(wait(&world));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    let mut other = world.agent(&world.site2).await;
    other.bind("https://other.internal").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "that is another one");
    let mut peer = world.agent(&world.site1).await;
    peer.bind(APP).await;
    waiting.await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(8));
    assert!(world.internal("main", APP).is_ok());
    wait(&world).await;

    drop(peer);
    world.until_sessions(1).await;
    wait(&world).await;
    assert_eq!(before.elapsed().as_secs(), 20, "it waits until the end of the time");
    wait(&world).await;
    assert_eq!(before.elapsed().as_secs(), 20, "and not afterwards");
}

#[tokio::test(start_paused = true)]
async fn gateway_that_ends_lets_nobody_wait() {
    let world = World::new();
    world.gateway.expect_agents(Duration::from_secs(20));
    world.gateway.drain(Duration::ZERO).await;
    let before = Instant::now();
    world.gateway.arrival("main", &EndpointUrl::parse(APP).unwrap()).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
}
