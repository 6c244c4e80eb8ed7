// A web server for tests on a real node: says its version, fails as often as it is told to, counts its answers for
// Prometheus, and leaves in good order.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// linger is how long a pod that was told to end still answers: until whoever sends requests has heard of it.
const linger = 3 * time.Second

func main() {
	version := os.Getenv("VERSION")
	failing, _ := strconv.ParseFloat(os.Getenv("ERROR_RATE"), 64)
	var good, bad atomic.Int64
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE http_requests_total counter\n")
		for code, count := range map[string]int64{"200": good.Load(), "500": bad.Load()} {
			fmt.Fprintf(w, "http_requests_total{code=%q,version=%q} %d\n", code, version, count)
		}
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if rand.Float64() < failing {
			bad.Add(1)
			http.Error(w, version, http.StatusInternalServerError)
			return
		}
		good.Add(1)
		fmt.Fprint(w, version)
	})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second}
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		<-ending
		time.Sleep(linger)
		limit, cancel := context.WithTimeout(context.Background(), linger)
		defer cancel()
		_ = server.Shutdown(limit)
		close(done)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-done
}
