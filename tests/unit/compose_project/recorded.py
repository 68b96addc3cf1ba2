# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``compose config`` printed for one file: v2.26 with ``--profile "*" --format json``, v1.29 plain.

The file uses short and long forms, a ``.env`` with PW=s3cret-pw, a profile, a
secret, replicas, and a directory with a space and an accent in its name.
"""

from __future__ import annotations

V2_CONFIG = r"""
{
  "name": "meinprject",
  "networks": {
    "default": {
      "name": "meinprject_default",
      "ipam": {}
    }
  },
  "secrets": {
    "token": {
      "name": "meinprject_token",
      "file": "/srv/Mein Próject/token"
    }
  },
  "services": {
    "db": {
      "command": null,
      "entrypoint": null,
      "environment": {
        "ODD": "a$$b s3cret-pw",
        "PASSTHROUGH": null,
        "POSTGRES_HOST_AUTH_METHOD": "trust"
      },
      "image": "postgres:14-alpine",
      "networks": {
        "default": null
      },
      "restart": "always",
      "shm_size": "268435456",
      "volumes": [
        {
          "type": "bind",
          "source": "/srv/Mein Próject/postgres14",
          "target": "/var/lib/postgresql/data",
          "bind": {
            "create_host_path": true
          }
        },
        {
          "type": "volume",
          "source": "pgdata",
          "target": "/extra",
          "read_only": true,
          "volume": {}
        },
        {
          "type": "volume",
          "target": "/anonymous",
          "volume": {}
        },
        {
          "type": "volume",
          "source": "ext",
          "target": "/ext",
          "volume": {
            "nocopy": true
          }
        },
        {
          "type": "tmpfs",
          "target": "/scratch"
        }
      ]
    },
    "redis": {
      "command": [
        "redis-server",
        "--save",
        "",
        "--requirepass",
        "s3cret-pw"
      ],
      "entrypoint": null,
      "image": "redis:7-alpine",
      "networks": {
        "default": null
      },
      "user": "999:1000"
    },
    "search": {
      "profiles": [
        "search"
      ],
      "command": null,
      "depends_on": {
        "web": {
          "condition": "service_started",
          "restart": true,
          "required": true
        }
      },
      "entrypoint": null,
      "image": "es",
      "network_mode": "service:web"
    },
    "sidekiq": {
      "build": {
        "context": "/srv/Mein Próject/side",
        "dockerfile": "Containerfile"
      },
      "command": null,
      "depends_on": {
        "web": {
          "condition": "service_started",
          "required": true
        }
      },
      "deploy": {
        "replicas": 2,
        "resources": {},
        "placement": {}
      },
      "entrypoint": null,
      "image": "me/side",
      "networks": {
        "default": null
      }
    },
    "web": {
      "build": {
        "context": "/srv/Mein Próject",
        "dockerfile": "Dockerfile"
      },
      "command": [
        "bash",
        "-c",
        "rm -f /x; echo $$HOME"
      ],
      "depends_on": {
        "db": {
          "condition": "service_started",
          "required": true
        },
        "redis": {
          "condition": "service_started",
          "required": true
        }
      },
      "entrypoint": null,
      "environment": {
        "A": "1"
      },
      "networks": {
        "default": null
      },
      "ports": [
        {
          "mode": "ingress",
          "host_ip": "127.0.0.1",
          "target": 3000,
          "published": "3000",
          "protocol": "tcp"
        },
        {
          "mode": "ingress",
          "target": 80,
          "published": "9000",
          "protocol": "tcp"
        },
        {
          "mode": "ingress",
          "target": 81,
          "published": "9001",
          "protocol": "tcp"
        },
        {
          "mode": "ingress",
          "target": 53,
          "published": "5353",
          "protocol": "udp"
        }
      ],
      "restart": "no",
      "secrets": [
        {
          "source": "token",
          "target": "/run/secrets/token"
        }
      ]
    }
  },
  "volumes": {
    "ext": {
      "name": "real-ext",
      "external": true
    },
    "pgdata": {
      "name": "meinprject_pgdata"
    }
  }
}"""

V1_CONFIG = r"""
secrets:
  token:
    file: /srv/Mein Próject/token
services:
  db:
    environment:
      ODD: a$$b s3cret-pw
      PASSTHROUGH: null
      POSTGRES_HOST_AUTH_METHOD: trust
    image: postgres:14-alpine
    restart: always
    shm_size: 256mb
    volumes:
    - /srv/Mein Próject/postgres14:/var/lib/postgresql/data:rw
    - pgdata:/extra:ro
    - /anonymous
    - source: ext
      target: /ext
      type: volume
      volume:
        nocopy: true
    - target: /scratch
      type: tmpfs
  redis:
    command: redis-server --save "" --requirepass 's3cret-pw'
    image: redis:7-alpine
    user: 999:1000
  search:
    image: es
    network_mode: service:web
    profiles:
    - search
  sidekiq:
    build:
      context: /srv/Mein Próject/side
      dockerfile: Containerfile
    depends_on:
      web:
        condition: service_started
    deploy:
      replicas: 2
    image: me/side
  web:
    build:
      context: /srv/Mein Próject
    command: bash -c "rm -f /x; echo $$HOME"
    depends_on:
      db:
        condition: service_started
      redis:
        condition: service_started
    environment:
      A: '1'
    ports:
    - 127.0.0.1:3000:3000/tcp
    - published: 9000
      target: 80
    - published: 9001
      target: 81
    - protocol: udp
      published: 5353
      target: 53
    restart: "no"
    secrets:
    - source: token
version: '3.8'
volumes:
  ext:
    external: true
    name: real-ext
  pgdata: {}

"""
