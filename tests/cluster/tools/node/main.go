// What a node of the test cluster needs beside containerd, the kubelet and kube-proxy.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 0:
		return pause()
	case args[0] == "relay" && len(args) == 3:
		return relay(args[1], args[2])
	case args[0] == "policies" && len(args) == 6:
		return enforce(args[1], args[2], args[3], args[4], args[5])
	}
	return fmt.Errorf("usage: node [relay LISTEN TARGET | policies SERVER CA CERTIFICATE KEY PODS]")
}

// pause is the first process of a pod, and of the node itself: it does nothing but collect the orphans that end.
func pause() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for {
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
				break
			}
		}
		if s := <-signals; s != syscall.SIGCHLD {
			return nil
		}
	}
}

// relay passes every connection on: the API server listens on the loopback interface of the machine, and the node,
// which has a network of its own, reaches it here.
func relay(listen, target string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		from, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer from.Close()
			to, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer to.Close()
			done := make(chan struct{}, 2)
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.(*net.TCPConn).CloseWrite()
				done <- struct{}{}
			}
			go pass(to, from)
			go pass(from, to)
			<-done
			<-done
		}()
	}
}
