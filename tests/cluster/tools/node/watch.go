package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

type meta struct {
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type event[T any] struct {
	Type   string `json:"type"`
	Object T      `json:"object"`
}

// mirror is what the API server holds of one kind.
type mirror[T any] struct {
	lock    sync.Mutex
	objects map[string]T
	whole   bool
}

func (m *mirror[T]) list() ([]T, bool) {
	m.lock.Lock()
	defer m.lock.Unlock()
	var all []T
	for _, object := range m.objects {
		all = append(all, object)
	}
	return all, m.whole
}

// follow keeps the mirror up to date and says so after every change. A lost connection leaves what was last seen.
func (m *mirror[T]) follow(client *http.Client, url string, of func(*T) *meta, changed chan<- struct{}) {
	for {
		if err := m.watch(client, url, of, changed); err != nil {
			fmt.Fprintln(os.Stderr, url, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (m *mirror[T]) watch(client *http.Client, url string, of func(*T) *meta, changed chan<- struct{}) error {
	const all = "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
	response, err := client.Get(url + all)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	initial := map[string]T{}
	complete := false
	decoder := json.NewDecoder(response.Body)
	for {
		var e event[T]
		if err := decoder.Decode(&e); err != nil {
			return err
		}
		m.lock.Lock()
		objects := initial
		if complete {
			objects = m.objects
		}
		about := of(&e.Object)
		switch e.Type {
		case "ADDED", "MODIFIED":
			objects[about.UID] = e.Object
		case "DELETED":
			delete(objects, about.UID)
		case "BOOKMARK":
			if about.Annotations["k8s.io/initial-events-end"] == "true" {
				m.objects, m.whole, complete = initial, true, true
			}
		default:
			m.lock.Unlock()
			return fmt.Errorf("the API server ended the watch: %s", e.Type)
		}
		m.lock.Unlock()
		if complete {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}

func apiClient(ca, certificate, key string) (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config}}, nil
}
