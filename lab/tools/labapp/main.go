// Command labapp is every small program that a lab pod needs, in one static
// file: a server that says who it is, a client, and a process that only waits.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const usage = `labapp pause
labapp serve                       answer "Hello version: $VERSION" on :5000
labapp get [-n N] [-t SECONDS] URL    one line per request: status and body, or ERR and why
labapp load URL RATE SECONDS       the same at a steady rate, a connection each, each line with its time
labapp connect HOST:PORT           open | refused | timeout | other
labapp resolve NAME                the addresses, one per line
`

func main() {
	args := append(os.Args[1:], "pause")
	switch args[0] {
	case "pause":
		pause()
	case "serve":
		serve()
	case "get":
		get(args[1 : len(args)-1])
	case "load":
		load(args[1], atoi(args[2]), atoi(args[3]))
	case "connect":
		fmt.Println(connect(args[1]))
	case "resolve":
		resolve(args[1])
	default:
		fail(usage)
	}
}

func pause() {
	done := make(chan os.Signal, 1)
	signal.Notify(done, syscall.SIGTERM, syscall.SIGINT)
	<-done
}

func serve() {
	host, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "Hello version: %s, instance: %s\n", os.Getenv("VERSION"), host)
	})
	fail(http.ListenAndServe(":5000", nil).Error())
}

func get(args []string) {
	count, timeout := 1, 5
	for len(args) > 2 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-n":
			count = atoi(args[1])
		case "-t":
			timeout = atoi(args[1])
		}
		args = args[2:]
	}
	if len(args) != 1 {
		fail(usage)
	}
	for range count {
		fmt.Println(fetch(args[0], time.Duration(timeout)*time.Second))
	}
}

// load begins requests by the clock, whatever became of those before: each on a
// connection of its own, to an address that is looked up once.
func load(url string, rate, seconds int) {
	host, port, err := net.SplitHostPort(strings.Split(strings.TrimPrefix(url, "http://"), "/")[0])
	if err != nil {
		fail(err.Error())
	}
	addresses, err := net.LookupHost(host)
	if err != nil {
		fail(err.Error())
	}
	to := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(addresses[0], port))
	}
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DialContext: to, DisableKeepAlives: true},
	}
	out := bufio.NewWriter(os.Stdout)
	var all sync.WaitGroup
	var line sync.Mutex
	begin := time.Now()
	for n := range rate * seconds {
		time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / time.Duration(rate))))
		all.Add(1)
		go func() {
			defer all.Done()
			at := time.Now()
			answer := ask(client, url)
			line.Lock()
			defer line.Unlock()
			fmt.Fprintln(out, at.UTC().Format("15:04:05.000"), answer)
		}()
	}
	all.Wait()
	out.Flush()
}

func fetch(url string, timeout time.Duration) string {
	return ask(&http.Client{Timeout: timeout}, url)
}

func ask(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return "ERR " + err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return fmt.Sprintf("%d %s", response.StatusCode, strings.TrimSpace(string(body)))
}

func connect(address string) string {
	connection, err := net.DialTimeout("tcp", address, 3*time.Second)
	switch {
	case err == nil:
		connection.Close()
		return "open"
	case strings.Contains(err.Error(), "refused"):
		return "refused"
	case os.IsTimeout(err) || strings.Contains(err.Error(), "timeout"):
		return "timeout"
	}
	return err.Error()
}

func resolve(name string) {
	limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(limit, name)
	if err != nil {
		fail(err.Error())
	}
	fmt.Println(strings.Join(addresses, "\n"))
}

func atoi(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		fail(usage)
	}
	return n
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
