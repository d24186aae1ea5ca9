// Command labcloud plays the part of the cloud that a mesh needs: each Service
// of type LoadBalancer gets a name shaped as a network load balancer's, with an
// address in each of two zones, a DNS entry, and a way to the Service's node
// ports. It can be told to publish an address instead, to forget the name, to
// drop what arrives, or to take its time.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
)

func main() {
	dns := flag.String("dns", "198.18.0.1:53", "where names are served")
	control := flag.String("control", "198.18.0.1:8081", "where the control API is served, for parties on the WAN")
	socket := flag.String("socket", "", "a unix socket on which the control API is served too")
	zones := flag.String("zones", "us-west-2a=198.18.64.0/24,us-west-2b=198.18.65.0/24",
		"zone=CIDR,...: every balancer has one address in each")
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)

	cloud, err := newCloud(strings.Split(*zones, ","))
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(serveNames(*dns, cloud.lookUp)) }()
	api := controlAPI(cloud)
	if *socket != "" {
		os.Remove(*socket)
		listener, err := net.Listen("unix", *socket)
		if err != nil {
			log.Fatal(err)
		}
		go func() { log.Fatal(http.Serve(listener, api)) }()
	}
	fmt.Println("labcloud serves")
	log.Fatal(http.ListenAndServe(*control, api))
}
