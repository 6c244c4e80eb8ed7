module interlock.dev/tools/node

go 1.26
