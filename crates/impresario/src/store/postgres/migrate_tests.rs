//! Migrations, each on a schema of the test's own.

use super::*;
use crate::store::postgres::{Target, server, testing};

const STEPS: &[Migration] = &[
    step(1, "one", "CREATE TABLE one (id BIGINT)", 1),
    step(2, "two", "CREATE TABLE two (id BIGINT)", 1),
];

const fn step(version: i64, name: &'static str, sql: &'static str, oldest: i64) -> Migration {
    Migration {
        version,
        name,
        sql,
        oldest,
    }
}

/// A schema without a table.
struct Empty {
    name: String,
}

impl Empty {
    async fn new() -> Self {
        let name = super::super::server::unique("migrate");
        testing::run(&server::shared(), &format!("CREATE SCHEMA {name}")).await;
        Self { name }
    }

    fn url(&self) -> String {
        format!(
            "{}?options=-csearch_path%3D{}&sslmode=disable",
            server::shared(),
            self.name
        )
    }

    async fn client(&self) -> Client {
        let target = Target::parse(&self.url(), &|_| None).unwrap();
        crate::store::postgres::connect(&target, None).await.unwrap()
    }

    async fn gone(self) {
        testing::run(&server::shared(), &format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

async fn tables(client: &Client) -> String {
    let sql = "SELECT COALESCE(string_agg(tablename::text, ' ' ORDER BY tablename), '') FROM pg_tables
        WHERE schemaname = current_schema()";
    testing::text(client, sql).await
}

async fn refused(client: &mut Client, steps: &[Migration]) -> String {
    migrate_to(client, steps).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_empty_database_is_migrated_and_a_second_time_nothing_is_done() {
    let schema = Empty::new().await;
    let mut client = schema.client().await;
    let newest = MIGRATIONS.last().unwrap().version;
    let error = check_version(&client, "here").await.unwrap_err().to_string();
    assert!(
        error.contains("no tables") && error.contains("impresario migrate"),
        "{error}"
    );
    let done = migrate(&mut client).await.unwrap();
    assert_eq!((done.from, done.to), (0, newest));
    assert!(
        check_version(&client, "here")
            .await
            .unwrap()
            .contains(&"jobs".to_owned())
    );
    let done = migrate(&mut client).await.unwrap();
    assert_eq!((done.from, done.to), (newest, newest));
    schema.gone().await;
}

#[tokio::test]
async fn of_two_that_migrate_at_once_one_does_it_and_the_other_finds_it_done() {
    let schema = Empty::new().await;
    let (mut one, mut two) = (schema.client().await, schema.client().await);
    let newest = MIGRATIONS.last().unwrap().version;
    let (one, two) = tokio::join!(migrate(&mut one), migrate(&mut two));
    let mut from = [one.unwrap(), two.unwrap()].map(|done| done.from);
    from.sort_unstable();
    assert_eq!(from, [0, newest]);
    schema.gone().await;
}

#[tokio::test]
async fn a_migration_that_fails_halfway_leaves_nothing() {
    let schema = Empty::new().await;
    let mut client = schema.client().await;
    migrate_to(&mut client, &STEPS[..1]).await.unwrap();
    let broken = [
        step(1, "one", STEPS[0].sql, 1),
        step(2, "two", STEPS[1].sql, 1),
        step(3, "three", "CREATE TABLE three (id BIGINT); SELECT 1 / 0", 1),
    ];
    let error = refused(&mut client, &broken).await;
    assert!(error.contains("division by zero"), "{error}");
    assert_eq!(tables(&client).await, "one schema_migrations");
    // And the same connection goes on with the version that was.
    let done = migrate_to(&mut client, STEPS).await.unwrap();
    assert_eq!((done.from, done.to), (1, 2));
    schema.gone().await;
}

#[tokio::test]
async fn a_landed_migration_that_was_changed_is_refused() {
    let schema = Empty::new().await;
    let mut client = schema.client().await;
    migrate_to(&mut client, STEPS).await.unwrap();
    let changed = [
        step(1, "one", STEPS[0].sql, 1),
        step(2, "two", "CREATE TABLE two (id TEXT)", 1),
        step(3, "three", "CREATE TABLE three (id BIGINT)", 1),
    ];
    let error = refused(&mut client, &changed).await;
    assert!(error.contains("migration 2 (two) is not the one"), "{error}");
    assert_eq!(tables(&client).await, "one schema_migrations two");
    schema.gone().await;
}

#[tokio::test]
async fn a_newer_database_says_who_may_go_on() {
    let schema = Empty::new().await;
    let mut client = schema.client().await;
    let newer = |oldest| {
        [
            step(1, "one", STEPS[0].sql, 1),
            step(2, "two", STEPS[1].sql, 1),
            step(3, "three", "CREATE TABLE three (id BIGINT)", oldest),
        ]
    };
    migrate_to(&mut client, &newer(2)).await.unwrap();
    let done = migrate_to(&mut client, STEPS).await.unwrap();
    assert_eq!(
        (done.from, done.to),
        (3, 3),
        "there is nothing to do for the older one"
    );
    let error = refused(&mut client, &STEPS[..1]).await;
    assert!(
        error.contains("schema version 3, which programs that know less than version 2 cannot use, and this program knows 1"),
        "{error}"
    );
    schema.gone().await;
}

/// A role that may look into the schema and no more, and the URL for it.
async fn role(schema: &Empty) -> (String, String) {
    let (role, name) = (super::super::server::unique("poor"), &schema.name);
    let sql = format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {name} TO {role}");
    testing::run(&server::shared(), &sql).await;
    let mut url = url::Url::parse(&schema.url()).unwrap();
    url.set_username(&role).unwrap();
    (role, url.to_string())
}

async fn drop_role(role: &str) {
    testing::run(
        &server::shared(),
        &format!("DROP OWNED BY {role}; DROP ROLE {role}"),
    )
    .await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_the_statement_that_gives_it() {
    let schema = Empty::new().await;
    let name = &schema.name;
    let (role, url) = role(&schema).await;
    let target = Target::parse(&url, &|_| None).unwrap();
    let error = crate::store::migrate(&target).await.unwrap_err().to_string();
    let grant = format!("GRANT USAGE, CREATE ON SCHEMA \"{name}\" TO \"{role}\"");
    assert!(error.contains(&grant), "{error}");

    // The tables are another role's.
    let mut client = schema.client().await;
    migrate(&mut client).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let opened = crate::store::Store::of(Some(&target), folder.path(), crate::store::Access::Server).await;
    let error = opened.unwrap_err().to_string();
    let grant =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{name}\" TO \"{role}\"");
    assert!(
        error.contains("lacks DELETE, INSERT, SELECT, UPDATE") && error.contains(&grant),
        "{error}"
    );
    testing::run(
        &schema.url(),
        &format!("GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {role}"),
    )
    .await;
    let opened = crate::store::Store::of(Some(&target), folder.path(), crate::store::Access::Server).await;
    let error = opened.unwrap_err().to_string();
    let grant =
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"{name}\" TO \"{role}\"");
    assert!(
        error.contains("DELETE, INSERT, UPDATE") && error.contains(&grant),
        "{error}"
    );
    drop_role(&role).await;
    schema.gone().await;
}

/// Each migration that has landed, and the SHA-256 of its file on either engine. A database that has applied one keeps its
/// hash and refuses any other, so the files are never edited: what is to change comes as a new migration. Whoever lands one
/// adds its line here.
const LANDED: &[(&str, &str, &str)] = &[
    (
        "0001_init.sql",
        "5c10c989e5845d4c8e40a24154902f1029bb324ac626fc2656f0f4b2c364a6af",
        "5a53c07805a54ccf36e0b86865de6e36cdd6442229a8344b967211fcbc6b072d",
    ),
    (
        "0002_policies.sql",
        "9146917782c61626f3593b751cd235a829b0cec316ecc1191316a319248560a3",
        "82cea2db22bf4391db0e796b041accc2fb3d3fde06457fd5bdbe7a973b4cff1d",
    ),
    (
        "0003_leases.sql",
        "533bf56a76672136a1e1c6ce83adf45647cfd0bd0a70206cbce42313d9acd964",
        "639df7809294e02f6295ca1dddcaacb215c03d472aaf1ed6571f589eb865bfe5",
    ),
    (
        "0004_limits.sql",
        "54148bc23b7c52ae7eb442d555e75d2eb8c646f4a046549fd58016bb5e3db943",
        "1790d07a18e338d9dc9921decc4fe3fd9c3803455bb4b74ae69a91334676d24b",
    ),
    (
        "0005_deliveries.sql",
        "98021a0a4d094dc0bdd1e287978aa186373702ef6e80baeb3ceccd3f0127265b",
        "8228e5f47563f46a560759a1f2c4f8bb5f916e0ff7e9037e0907a366745ad2f2",
    ),
];

#[test]
fn landed_migrations_are_not_edited() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<String> = ["sqlite", "postgres"]
        .iter()
        .flat_map(|engine| std::fs::read_dir(folder.join(engine)).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files.dedup();
    let known: Vec<&str> = LANDED.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        files, known,
        "each engine has the migrations that have landed, and no others"
    );
    for (name, sqlite, postgres) in LANDED {
        for (engine, expected) in [("sqlite", sqlite), ("postgres", postgres)] {
            let path = folder.join(engine).join(name);
            let found = hash(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(&found, expected, "{}", path.display());
        }
    }
    assert_eq!(MIGRATIONS.len(), LANDED.len());
}

#[tokio::test]
async fn a_table_that_somebody_uses_is_waited_for_a_little_at_a_time() {
    let schema = Empty::new().await;
    let (mut client, dump, watch) = (
        schema.client().await,
        schema.client().await,
        schema.client().await,
    );
    migrate(&mut client).await.unwrap();
    dump.batch_execute("BEGIN; LOCK TABLE schema_migrations")
        .await
        .unwrap();
    let waiting =
        "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 'schema_migrations'::regclass";
    let waits = async |is: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        while testing::text(&watch, waiting).await != is {
            assert!(Instant::now() < end, "it should be {is}");
        }
    };
    let release = async {
        // One try waits, gives up, and another waits: whoever comes behind the first has had a turn.
        waits("1").await;
        waits("0").await;
        waits("1").await;
        dump.batch_execute("COMMIT").await.unwrap();
    };
    let (done, ()) = tokio::join!(migrate(&mut client), release);
    done.unwrap();
    drop((client, dump, watch));
    schema.gone().await;
}
