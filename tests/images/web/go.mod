module interlock.dev/tests/web

go 1.26
