// The bot on App Service: like other web services, but with WebSockets, which are disabled by default.
param name string = 'bot-gateway'
param planId string
param image string
param location string = resourceGroup().location

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'app,linux,container'
  properties: {
    serverFarmId: planId
    httpsOnly: true
    siteConfig: {
      linuxFxVersion: 'DOCKER|${image}'
      alwaysOn: true
      webSocketsEnabled: true
      healthCheckPath: '/health/ready'
      appSettings: [
        { name: 'OTEL_SERVICE_NAME', value: name }
        { name: 'CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD', value: '20' }
        { name: 'WEBSITE_HEALTHCHECK_MAXPINGFAILURES', value: '2' }
        { name: 'WEBSITE_WARMUP_PATH', value: '/health/startup' }
        { name: 'WEBSITE_WARMUP_STATUSES', value: '200' }
        { name: 'WEBSITE_SWAP_WARMUP_PING_PATH', value: '/health/ready' }
        { name: 'WEBSITE_SWAP_WARMUP_PING_STATUSES', value: '200' }
        { name: 'WEBSITES_CONTAINER_START_TIME_LIMIT', value: '230' }
        { name: 'WEBSITES_CONTAINER_STOP_TIME_LIMIT', value: '20' }
        { name: 'WEBSITES_PORT', value: '8000' }
      ]
    }
  }
}
