// Command etcd is etcd's own server: its module publishes the server as a
// package only, so the program around it is ours.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
