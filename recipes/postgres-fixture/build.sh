#!/bin/sh
# PostgreSQL with a database of customers, products and orders.
# builder: box
# parent: box-base
# about: PostgreSQL running, its database "fixture" loaded; psql fixture asks it
# memory: 256MiB
# disk: 4GiB
# warm: postgres-start
# warm: psql fixture -qAtc 'select sum(total) from revenue' -c 'select count(*) from order_items' -c checkpoint
# ready: test "$(psql fixture -Atc 'select count(*) from orders')" = 5000
#
# Runs as root in a box cloned from the parent. Local users and 127.0.0.1 are trusted: who is in the machine owns it.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt-get update -q
apt-get install -q -y --no-install-recommends postgresql-common
# the cluster is made below, with an encoding and settings of its own
sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
apt-get install -q -y --no-install-recommends postgresql
apt-get clean
rm -rf /var/lib/apt/lists/*

version=$(ls /usr/lib/postgresql)
pg_createcluster --locale C.UTF-8 --start-conf manual "$version" main
config=/etc/postgresql/$version/main
cat > "$config/pg_hba.conf" <<'CONF'
local all all trust
host all all 127.0.0.1/32 trust
CONF
cat > "$config/conf.d/fixture.conf" <<'CONF'
# One of many small machines. fsync stays on, so that a snapshot of the disk is always a sound database; a commit need not
# wait for it, so that a power cut may lose the last of them.
fsync = on
synchronous_commit = off
listen_addresses = '127.0.0.1'
max_connections = 32
shared_buffers = 32MB
min_wal_size = 32MB
wal_level = minimal
max_wal_senders = 0
autovacuum_naptime = 10min
jit = off
CONF

cat > /usr/local/bin/postgres-start <<'SHELL'
#!/bin/sh
# usage: postgres-start    starts PostgreSQL and returns when it answers
set -eu
version=$(ls /usr/lib/postgresql)
install -d -o postgres -g postgres -m 2775 /run/postgresql
# an emulated machine needs longer than the usual minute
exec pg_ctlcluster "$version" main start -- -t 300 < /dev/null
SHELL
chmod 755 /usr/local/bin/postgres-start

mkdir -p /usr/share/postgres-fixture
cat > /usr/share/postgres-fixture/fixture.sql <<'SQL'
-- The same rows every time: nothing here is random, and times count from a fixed day.
create table customers (
    id integer primary key,
    name text not null,
    email text not null unique,
    country char(2) not null,
    created_at timestamptz not null
);
create table products (
    id integer primary key,
    name text not null,
    price numeric(8, 2) not null check (price > 0)
);
create table orders (
    id integer primary key,
    customer_id integer not null references customers,
    status text not null check (status in ('open', 'paid', 'sent', 'returned')),
    ordered_at timestamptz not null
);
create table order_items (
    order_id integer not null references orders,
    product_id integer not null references products,
    quantity integer not null check (quantity > 0),
    primary key (order_id, product_id)
);

insert into customers
select n, 'Customer ' || n, 'customer' || n || '@example.org', (array['AT', 'BR', 'DE', 'FR', 'IN', 'JP', 'KE', 'US'])[n % 8 + 1],
    timestamptz '2025-01-01 00:00:00+00' + n * interval '1 hour'
from generate_series(1, 2000) n;
insert into products
select n, 'Product ' || n, (n * 37 % 9900 + 99) / 100.0 from generate_series(1, 200) n;
insert into orders
select n, n * 7919 % 2000 + 1, (array['open', 'paid', 'sent', 'sent', 'sent', 'returned'])[n % 6 + 1],
    timestamptz '2025-06-01 00:00:00+00' + n * interval '17 minutes'
from generate_series(1, 5000) n;
insert into order_items
select o, (o * 31 + i * 53) % 200 + 1, (o + i) % 5 + 1 from generate_series(1, 5000) o, generate_series(1, o % 4 + 1) i;

create index on orders (customer_id);
create index on orders (ordered_at);
create index on order_items (product_id);
create view revenue as
select c.country, count(distinct o.id) as orders, sum(i.quantity * p.price) as total
from customers c join orders o on o.customer_id = c.id join order_items i on i.order_id = o.id
join products p on p.id = i.product_id
where o.status <> 'returned' group by c.country order by total desc;
SQL

postgres-start
psql='psql -q -v ON_ERROR_STOP=1'
$psql -U postgres -c 'create role root superuser login' -c 'create database fixture owner root'
$psql -1 -f /usr/share/postgres-fixture/fixture.sql fixture
$psql -c 'vacuum (analyze, freeze)' fixture

# What it is for works.
[ "$(psql fixture -Atc 'select count(*) from orders')" = 5000 ]
[ "$(psql fixture -Atc 'select count(*) from order_items')" = 12500 ]
[ "$(psql -h 127.0.0.1 fixture -Atc 'select count(*) from customers')" = 2000 ]
psql fixture -c 'select * from revenue'
pg_ctlcluster "$version" main stop -m fast
