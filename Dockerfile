# Nothing but the program, certificates to trust and a user. operator/image/build makes what is copied here.
FROM scratch
ARG TARGETARCH=amd64
COPY target/image/${TARGETARCH}/ /
USER 999:999
EXPOSE 8080 8081
ENTRYPOINT ["/argocd-extension-proxy"]
CMD ["run"]
