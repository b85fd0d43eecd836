use super::*;
use crate::store::postgres::{
    connect,
    server::{shared, unique},
    testing::target,
};

/// A database of a test's own and a role in it, which is not its owner.
async fn made(options: &str) -> (Client, Target, Client, Target) {
    let admin = connect(&target(&shared()), None).await.unwrap();
    let (role, database) = (unique("role"), unique("data"));
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .await
        .unwrap();
    admin
        .batch_execute(&format!("CREATE DATABASE {database} {options}"))
        .await
        .unwrap();
    let of_owner = target(&in_database(&shared(), &database));
    let of_role = target(&in_database(&shared(), &database).replace("postgres@", &format!("{role}@")));
    let owner = connect(&of_owner, None).await.unwrap();
    let client = connect(&of_role, None).await.unwrap();
    (owner, of_owner, client, of_role)
}

fn in_database(url: &str, database: &str) -> String {
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

fn sentence(outcome: Result<()>) -> String {
    let error = outcome.unwrap_err();
    assert!(matches!(error, StoreError::Open(_)), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_database_that_can_be_used_passes() {
    let (owner, of_owner, client, of_role) = made("").await;
    inspect(&owner, &of_owner).await.unwrap();
    may_migrate(&owner, &of_owner).await.unwrap();
    may_use(&owner, &of_owner, &["tenants"]).await.unwrap();
    inspect(&client, &of_role).await.unwrap();
}

#[tokio::test]
async fn another_encoding_is_refused_with_the_command_that_makes_the_right_one() {
    let (owner, of_owner, ..) = made("ENCODING LATIN1 LOCALE 'C' TEMPLATE template0").await;
    let why = sentence(inspect(&owner, &of_owner).await);
    for part in [
        "LATIN1",
        "UTF8",
        "createdb",
        "--template=template0",
        &of_owner.database,
    ] {
        assert!(why.contains(part), "no {part} in {why}");
    }
}

#[tokio::test]
async fn rights_that_are_missing_are_named_as_the_grant_that_gives_them() {
    let (owner, _, client, of_role) = made("").await;
    let role = of_role.user.clone();
    let why = sentence(may_migrate(&client, &of_role).await);
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"{role}\"");
    assert!(why.contains(&grant) && why.contains("\"public\""), "{why}");

    owner
        .batch_execute(
            "CREATE TABLE tenants (id int); CREATE TABLE jobs (id int); CREATE TABLE other (id int)",
        )
        .await
        .unwrap();
    owner
        .batch_execute(&format!("GRANT SELECT, INSERT ON tenants TO {role}"))
        .await
        .unwrap();
    let tables = ["jobs", "tenants", "fires"];
    let why = sentence(may_use(&client, &of_role, &tables).await);
    let all =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"public\" TO \"{role}\"");
    for part in [
        "DELETE, INSERT, SELECT, UPDATE on the table \"jobs\" and 1 more",
        &all,
    ] {
        assert!(why.contains(part), "no {part} in {why}");
    }
    owner
        .batch_execute(&format!("GRANT ALL ON jobs TO {role}"))
        .await
        .unwrap();
    let why = sentence(may_use(&client, &of_role, &tables).await);
    assert!(why.contains("DELETE, UPDATE on the table \"tenants\":"), "{why}");
    // What was proposed is what helps.
    owner.batch_execute(&all).await.unwrap();
    may_use(&client, &of_role, &tables).await.unwrap();
    owner.batch_execute(&grant).await.unwrap();
    may_migrate(&client, &of_role).await.unwrap();

    owner
        .batch_execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        .await
        .unwrap();
    owner
        .batch_execute(&format!("REVOKE ALL ON SCHEMA public FROM {role}"))
        .await
        .unwrap();
    let client = connect(&of_role, None).await.unwrap();
    let why = sentence(inspect(&client, &of_role).await);
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA public TO \"{role}\"");
    assert!(why.contains(&grant) && why.contains("search_path"), "{why}");
    let why = sentence(may_migrate(&client, &of_role).await);
    assert!(why.contains("GRANT USAGE, CREATE ON SCHEMA \"public\""), "{why}");
    owner.batch_execute(&grant).await.unwrap();
    inspect(&client, &of_role).await.unwrap();
}

#[tokio::test]
async fn a_schema_of_its_own_is_chosen_by_the_search_path() {
    let (owner, of_owner, _, of_role) = made("").await;
    let role = of_role.user.clone();
    owner
        .batch_execute(&format!("CREATE SCHEMA AUTHORIZATION {role}"))
        .await
        .unwrap();
    let client = connect(&of_role, None).await.unwrap();
    inspect(&client, &of_role).await.unwrap();
    may_migrate(&client, &of_role).await.unwrap();

    // Whatever it is called, and whoever the session has become.
    owner
        .batch_execute("CREATE SCHEMA \"My App\"; CREATE TABLE \"My App\".jobs (id int)")
        .await
        .unwrap();
    let options = "options=-c%20search_path%3D%22My%5C%20App%22%20-c%20role%3D";
    let in_schema = target(&format!("{}?{options}{role}", of_owner.shown()));
    let client = connect(&in_schema, None).await.unwrap();
    let why = sentence(inspect(&client, &in_schema).await);
    assert!(
        why.contains(&format!("AUTHORIZATION \"{role}\"")) && why.contains("My App"),
        "{why}"
    );
    owner
        .batch_execute(&format!("GRANT USAGE ON SCHEMA \"My App\" TO {role}"))
        .await
        .unwrap();
    let client = connect(&in_schema, None).await.unwrap();
    inspect(&client, &in_schema).await.unwrap();
    let why = sentence(may_migrate(&client, &in_schema).await);
    assert!(
        why.contains(&format!("ON SCHEMA \"My App\" TO \"{role}\"")),
        "{why}"
    );
    let why = sentence(may_use(&client, &in_schema, &["jobs"]).await);
    assert!(
        why.contains(&format!("IN SCHEMA \"My App\" TO \"{role}\"")),
        "{why}"
    );
}

#[tokio::test]
async fn a_session_that_its_options_keep_from_writing_is_refused() {
    let read_only = target(&format!("{}?options=-c%20transaction_read_only%3Don", shared()));
    let client = connect(&read_only, None).await.unwrap();
    inspect(&client, &read_only).await.unwrap();
    client.batch_execute("BEGIN READ ONLY").await.unwrap();
    let why = sentence(inspect(&client, &read_only).await);
    assert!(why.contains("transaction_read_only is on"), "{why}");
}
